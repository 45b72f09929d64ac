"""AWS's usual pattern: a class, one object of it, and a function that hands over to it."""


class ModelHandler:
    def __init__(self):
        self.is_ready = False
        self.words = None

    def initialize(self, context):
        with open(context.system_properties["model_dir"] + "/words.txt", encoding="utf-8") as words:
            self.words = words.read().split()
        self.is_ready = True

    def handle(self, data, context):
        return [{"first": self.words[0], "input": bytes(row["body"]).decode()} for row in data]


_service = ModelHandler()


def handle(data, context):
    if not _service.is_ready:
        _service.initialize(context)
    return None if data is None else _service.handle(data, context)
