"""`make test-mxnet`: MXNet's networks in MXNet and in a worker (`networks.py`), in an environment that it makes itself.

    python3 tests/mxnet/run.py [--only resnet] [--worker target/release/manifold-worker]

Needs Python 3.11, and PyPI at its first run; where they are not, it says so and ends well. The last line is `N passed,
N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mms"))

import environments  # noqa: E402, shared with the comparison with Multi Model Server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only networks whose names hold this")
    parser.add_argument("--worker", type=Path, default=environments.ROOT / "target" / "release" / "manifold-worker")
    options = parser.parse_args()
    environments.check_worker(options.worker)
    try:
        # The environment of bring-your-own handlers: one of them is large enough.
        folder = environments.provide("mxnet", HERE.parent / "mms" / "requirements.txt", HERE / "requirements.txt")
    except environments.CannotRunHere as error:
        return environments.skip("the comparison with MXNet (tests/mxnet)", error)
    command = [folder / "bin" / "python", HERE / "networks.py", "--only", options.only, "--worker", options.worker]
    return subprocess.run([str(it) for it in command]).returncode


if __name__ == "__main__":
    sys.exit(main())
