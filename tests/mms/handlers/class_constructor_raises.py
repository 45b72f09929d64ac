"""A class that cannot be made."""


class Model:
    def __init__(self):
        raise ValueError("not today")

    def initialize(self, context):
        pass

    def handle(self, data, context):
        return ["never"]
