"""Gives back what it got, byte for byte; other shapes of the same where the body says so."""


def handle(data, context):
    if data is None:
        return None
    return [row["body"] for row in data]
