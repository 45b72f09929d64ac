"""Answers after the seconds that its request names, and leaves a note of which process it was."""

import os
import time


def handle(data, context):
    if data is None:
        return None
    with open("pid", "w", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    time.sleep(float(bytes(data[0]["body"])))
    return ["slept"]
