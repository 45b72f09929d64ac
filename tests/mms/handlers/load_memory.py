"""Has no memory to load."""


def handle(data, context):
    if data is None:
        raise MemoryError
    return ["never"]
