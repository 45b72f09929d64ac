"""Prints lines that look like a server's own."""


def handle(data, context):
    if data is None:
        return None
    print("[METRICS]Broken")
    print("MMS worker started.")
    print("[PID] 1")
    return ["still here"]
