"""Cannot load."""


def handle(data, context):
    if data is None:
        raise ValueError("the weights are torn")
    return ["never"]
