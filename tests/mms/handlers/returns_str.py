"""Returns text beyond ASCII."""


def handle(data, context):
    return ["grüße, \u2603 \U0001f600: " + bytes(row["body"]).decode() for row in data or ()]
