"""Serves TorchServe's own image classifier in TorchServe 0.12.0 and here, from the same archive, and compares.

    make test-torchserve                                # or: python3 tests/torchserve/run.py [--binaries target/release]

Needs Python 3.11 and Java 17, and PyPI at its first run (3 GB); where they are not, it says so and ends well.
`classified.py` has what is asked. The last line is `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mms"))

import environments  # noqa: E402, beside the comparison with Multi Model Server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, default=environments.ROOT / "target" / "release")
    options = parser.parse_args()
    environments.check_worker(options.binaries / "manifold-worker")
    try:
        environments.check_java()
        environment = environments.provide("torchserve", HERE / "requirements.txt")
    except environments.CannotRunHere as error:
        return environments.skip("the comparison with TorchServe (tests/torchserve)", error)
    return environments.run_suite(
        [environment / "bin" / "python", HERE / "classified.py", environment, options.binaries.resolve()]
    )


if __name__ == "__main__":
    sys.exit(main())
