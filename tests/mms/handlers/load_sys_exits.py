"""Ends Python while it loads."""

import sys


def handle(data, context):
    if data is None:
        sys.exit("enough")
    return ["never"]
