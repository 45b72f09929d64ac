"""Two classes, none of which is named."""


class One:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return ["one"]


class Two(One):
    pass
