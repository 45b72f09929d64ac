"""`make setup`: checks the machine, then fetches what is asked for and not there yet.

    python3 scripts/setup.py [libtorch] [protoc] [weights] [venvs] [compose-spec] [debian]

May be killed at any moment; the same command continues. With everything there it only looks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import debian
import compose_spec
import libtorch
import prerequisites
import protoc
import venvs
import weights
from wheels import SetupError

PARTS = {
    "libtorch": libtorch.provide,
    "protoc": protoc.provide,
    "weights": weights.provide,
    "venvs": venvs.provide,
    # For the tests alone.
    "compose-spec": compose_spec.provide,
    "debian": debian.provide,
}
# What every build needs.
BUILD_PARTS = ("libtorch", "protoc")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to provide (default: what a build needs)")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        check_machine()
        for part in args.parts or BUILD_PARTS:
            PARTS[part](args.root)
    except SetupError as error:
        print(f"set-up cannot go on:\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted: the same command continues", file=sys.stderr)
        return 130
    return 0


def check_machine() -> None:
    unsupported = prerequisites.this_platform_problem()
    missing = [unsupported] if unsupported else prerequisites.missing_build_tools()
    if missing:
        raise SetupError("\n".join(missing))


if __name__ == "__main__":
    sys.exit(main())
