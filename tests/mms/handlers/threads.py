"""Leaves threads and a child behind that do not end by themselves, and answers."""

import subprocess
import threading
import time


def handle(data, context):
    if data is None:
        return None
    threading.Thread(target=time.sleep, args=(600,)).start()
    child = subprocess.Popen(["sleep", "600"])
    with open("pid", "w", encoding="utf-8") as file:
        file.write(str(child.pid))
    return ["answered"]
