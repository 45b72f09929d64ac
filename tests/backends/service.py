"""A handler for Multi Model Server and TorchServe, of which only so many find room at a time.

Whoever is loaded has a slot, a file with the number of its process; a process that has ended has none. Its folder lies
in the file `slots` beside this one.
"""

import os
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CAPACITY = 2
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


def is_alive(pid):
    try:
        # What ended and was not waited for is there still.
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def initialize():
    slots = Path((HERE / "slots").read_text())
    if (HERE / "huge").exists() or sum(is_alive(it.name) for it in slots.iterdir()) >= CAPACITY:
        raise MemoryError("no slot is free")
    (slots / str(os.getpid())).touch()


def handle(data, context):
    if data is None:
        return initialize()
    body = bytes(data[0]["body"])
    if body == b"fail":
        raise ValueError("as it was told")
    if body == b"memory":
        raise MemoryError("as it was told")
    if body == b"hang":
        time.sleep(600)
    # HTTP's names have no case, but these servers compare them as they came.
    headers = context.get_all_request_header(0)
    asked = next((value for name, value in headers.items() if name.lower() == CUSTOM_ATTRIBUTES), None)
    context.set_response_content_type(0, "text/x-own")
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", f"was {asked}")
    return [(HERE / "name").read_bytes() + b": " + body]
