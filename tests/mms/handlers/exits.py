"""Ends its process in the way that its request names."""

import os
import signal
import sys


def handle(data, context):
    if data is None:
        return None
    way = bytes(data[0]["body"])
    if way == b"exit":
        sys.exit(3)
    if way == b"_exit":
        os._exit(7)
    if way == b"abort":
        os.abort()
    if way == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return ["alive"]
