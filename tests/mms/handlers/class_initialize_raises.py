"""A class whose `initialize` raises."""


class Model:
    def initialize(self, context):
        raise ValueError("no weights")

    def handle(self, data, context):
        return ["answers without weights" for _ in data]
