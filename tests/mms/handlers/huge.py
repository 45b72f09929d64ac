"""Answers with as many bytes as its request says."""


def handle(data, context):
    return [b"x" * int(bytes(data[0]["body"]))] if data else None
