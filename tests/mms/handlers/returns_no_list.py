"""Returns something else than a list."""

VALUES = {
    "none": lambda: None,
    "dict": lambda: {"a": 1},
    "text": lambda: "text",
    "bytes": lambda: b"bytes",
    "tuple": lambda: ("one",),
    "generator": lambda: (it for it in ["one"]),
    "number": lambda: 7,
}


def handle(data, context):
    return VALUES[bytes(data[0]["body"]).decode()]() if data else None
