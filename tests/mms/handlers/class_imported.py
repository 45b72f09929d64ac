"""One class of its own beside one that it imports."""

from collections import OrderedDict  # noqa: F401, the point of it


class Model:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return ["my own" for _ in data]
