"""Fails a batch as a whole, in the way that any request of it names."""

import os

from mms.service import PredictionException


def handle(data, context):
    if data is None:
        return None
    bodies = [bytes(row["body"]) for row in data]
    if b"raise" in bodies:
        raise ValueError("one of them")
    if b"own" in bodies:
        raise PredictionException("none of them", 422)
    if b"memory" in bodies:
        raise MemoryError
    if b"few" in bodies:
        return ["one"]
    if b"unserializable" in bodies:
        return [object() if it == b"unserializable" else "fine" for it in bodies]
    if b"huge" in bodies:
        return [b"x" * 4_000_000 if it == b"huge" else b"fine" for it in bodies]
    if b"die" in bodies:
        os._exit(1)
    return [f"fine of {len(bodies)}" for _ in bodies]
