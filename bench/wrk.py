"""wrk, posting the same request again and again."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "post.lua"


def check():
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is missing; install it (Debian: apt-get install wrk)")


def post(url, headers, body, connections, seconds):
    """Returns how many were answered and how soon; ends the benchmark if one was not."""
    headers = "\n".join(f"{name}: {value}" for name, value in headers.items())
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        output = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", SCRIPT, url],
            check=True, capture_output=True, text=True, env={**os.environ, "BODY": file.name, "HEADERS": headers}).stdout
    result = json.loads(output.split("JSON ", 1)[1])
    if result["errors"]:
        sys.exit(f"bench: {result['errors']} requests failed:\n{output}")
    return result
