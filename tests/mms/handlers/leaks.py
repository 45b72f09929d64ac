"""Keeps 20 MB of every request, and says which process it is."""

import os

KEPT = []


def handle(data, context):
    if data is None:
        return None
    KEPT.append(bytearray(os.urandom(1)) * 20_000_000)
    with open("pid", "w", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    return [{"kept": sum(map(len, KEPT))}]
