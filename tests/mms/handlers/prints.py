"""Prints what may upset who reads it."""

import logging
import os
import subprocess
import sys


def handle(data, context):
    if data is None:
        return None
    print("one line")
    print("no end", end="")
    print("grüße \u2603 \udcff")
    print("long " * 40_000)
    sys.stderr.write("to stderr\n")
    sys.stdout.flush()
    os.write(1, b"\xff\xfe raw\n")
    logging.getLogger(__name__).error("logged")
    told = subprocess.run(["echo", "from a child"], stdout=subprocess.PIPE)
    return [told.stdout.decode()]
