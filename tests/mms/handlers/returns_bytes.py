"""Returns immutable bytes, which are no UTF-8."""


def handle(data, context):
    return [b"\x00\xff\xfe\x80" + bytes(row["body"])[::-1] for row in data or ()]
