"""Ends its process while it loads."""

import os


def handle(data, context):
    if data is None:
        os._exit(9)
    return ["never"]
