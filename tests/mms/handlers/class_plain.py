"""A class with `initialize` and `handle`."""


class Model:
    def __init__(self):
        self.name = None

    def initialize(self, context):
        self.name = context.model_name

    def handle(self, data, context):
        return [f"{self.name} answers {len(row)}" for row in data]
