"""Raises what its request names."""


class Own(BaseException):
    pass


class Awkward(Exception):
    def __str__(self):
        raise ValueError("it cannot be said")


def errors(name):
    return {
        "value": ValueError("a value"),
        "key": KeyError("a key"),
        "beyond ascii": RuntimeError("grüße \u2603"),
        "assertion": AssertionError(),
        "stop iteration": StopIteration(),
        "os": OSError(2, "No such file", "/nowhere"),
        "not implemented": NotImplementedError(),
        "awkward": Awkward(),
        "base": Own("not an Exception"),
        "interrupt": KeyboardInterrupt(),
    }[name]


def handle(data, context):
    if data is None:
        return None
    name = bytes(data[0]["body"]).decode()
    if name == "fine":
        return ["fine"]
    raise errors(name)
