"""Counts its requests: whether one process serves them all, with what it keeps."""

STATE = {"loads": 0, "requests": 0}


def handle(data, context):
    if data is None:
        STATE["loads"] += 1
        return None
    STATE["requests"] += 1
    return [dict(STATE)]
