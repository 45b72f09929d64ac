"""Drives real servers that are not ours by the agent: Multi Model Server 1.1.11 and TorchServe 0.12.0.

    make test-backends                                  # or, with options:
    python3 tests/backends/run.py [--only TorchServe] [--binaries target/release]

Needs Python 3.11 and Java 17, and PyPI at its first run; where they are not, it says so and ends well. `driven.py` has
what is asked of each server. The last line is `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mms"))

import environments  # noqa: E402, beside the comparison with Multi Model Server

REQUIREMENTS = [HERE.parent / "mms" / "requirements.txt", HERE / "requirements.txt"]


def main() -> int:
    options = _options()
    environments.check_worker(options.binaries / "manifold-worker")
    try:
        environments.check_java()
        environment = environments.provide("backends", *REQUIREMENTS)
    except environments.CannotRunHere as error:
        return environments.skip("the agent before real servers (tests/backends)", error)
    for modules in environment.glob("lib/python*/site-packages"):
        shutil.copy(HERE / "torch.py", modules)
    command = [environment / "bin" / "python", HERE / "driven.py", environment, options.binaries.resolve()]
    command += [f"-k{options.only}"] if options.only else []
    return environments.run_suite(command)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only tests whose names hold this")
    parser.add_argument("--binaries", type=Path, default=environments.ROOT / "target" / "release")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
