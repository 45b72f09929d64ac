"""Asks for more memory than there is, or says that there is none."""


def handle(data, context):
    if data is None:
        return None
    if bytes(data[0]["body"]) == b"ask":
        return [len(bytearray(1 << 60))]
    if bytes(data[0]["body"]) == b"say":
        raise MemoryError("no more")
    return ["fine"]
