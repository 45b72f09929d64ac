"""Returns as many answers as its request says."""


def handle(data, context):
    return ["answer"] * int(bytes(data[0]["body"])) if data else None
