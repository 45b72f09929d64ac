"""Loads longer than it may."""

import time


def handle(data, context):
    if data is None:
        time.sleep(600)
    return ["never"]
