"""`make test`: sets up, builds, runs every test that this machine can run, and counts.

Says loudly what it skips: only what this machine cannot run, never what merely went wrong. Its last line is `N passed,
N failed, N skipped`; a build or a runner that fails without a count counts as one failed test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import venvs
from wheels import SetupError

ROOT = Path(__file__).resolve().parent.parent
CARGO = os.environ.get("CARGO", "cargo")
# Every promise to clients with the newest boto3 and with the last 1.34; what brings a client of its own once.
CLIENT_SUITES = [("boto3", "tests/python"), ("boto3-1.34", "tests/python"), ("boto3", "tests/python/examples")]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(self, other)))

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def count_nextest(output: str) -> Count:
    """Reads `Summary [ 1.2s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped`."""
    found = re.search(r"^ *Summary \[.*?\] .*? tests? run: (.*)$", output, re.M)
    counts = {what: int(n) for n, what in re.findall(r"(\d+) ([a-z ]*[a-z])", found.group(1))} if found else {}
    failed = sum(counts.get(what, 0) for what in ("failed", "exec failed", "timed out"))
    return Count(counts.get("passed", 0), failed, counts.get("skipped", 0))


def count_cargo(output: str) -> Count:
    """Adds up `test result: ok. 3 passed; 0 failed; 1 ignored; …`, a line per program."""
    results = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output, re.M)
    return Count(*(sum(int(it[i]) for it in results) for i in range(3)))


def count_unittest(output: str) -> Count:
    """Reads `Ran 5 tests in 1.2s` and `FAILED (failures=1, errors=1, skipped=2)`."""
    ran = sum(int(it) for it in re.findall(r"^Ran (\d+) tests? in", output, re.M))
    ended = " ".join(re.findall(r"^(?:OK|FAILED) \((.*)\)$", output, re.M))
    counts = {what: int(n) for what, n in re.findall(r"([a-z][a-z ]*)=(\d+)", ended)}
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpected successes", 0)
    return Count(max(ran - failed - counts.get("skipped", 0), 0), failed, counts.get("skipped", 0))


def run(command: list[str], count=lambda _: Count(), **environment: str) -> Count:
    """Runs a step, shows what it says, and counts. A step that fails counts at least one failure."""
    print(f"\n== {' '.join(command)}", flush=True)
    said = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            said.append(ANSI.sub("", line))
            print(line, end="", flush=True)
    counted = count("".join(said))
    return counted._replace(failed=max(counted.failed, 1)) if process.returncode else counted


def skip(what: str, why: str) -> Count:
    print(f"\n!! SKIPPED: {what}: {why}", flush=True)
    return Count(skipped=1)


def fail(what: str, why: str) -> Count:
    print(f"\n!! FAILED: {what}: {why}", flush=True)
    return Count(failed=1)


def prepare() -> Count:
    """What the tests stand on: LibTorch, programs, demo models."""
    python = sys.executable
    for step in (
        [python, "scripts/setup.py", "libtorch", "weights"],
        # Tests and programs in one go: apart, they would compile some crates twice.
        [CARGO, "build", "--release", "--locked", "--workspace", "--lib", "--bins", "--tests"],
        ["target/release/manifold-zoo"],
    ):
        if run(step).failed:
            return Count(failed=1)
    return Count()


def rust_tests() -> Count:
    flags = ["--release", "--locked", "--workspace"]
    if shutil.which("cargo-nextest"):
        tested = run([CARGO, "nextest", "run", *flags], count_nextest)
    else:
        print("\n!! cargo-nextest is not installed: cargo test is used, with no time limit for a test", flush=True)
        # One test at a time, since clusters share the cores; nextest would see to that itself.
        flags_once = [*flags, "--lib", "--bins", "--tests", "--no-fail-fast"]
        tested = run([CARGO, "test", *flags_once, "--", "--test-threads=1"], count_cargo)
    return tested.plus(run([CARGO, "test", "--doc", *flags], count_cargo))


def script_tests() -> Count:
    return run([sys.executable, "-m", "unittest", "discover", "-s", "scripts"], count_unittest)


def client_tests() -> Count:
    what = "the tests with the stock AWS clients (tests/python)"
    try:
        venvs.provide(ROOT)
    except venvs.CannotRunHere as error:
        return skip(what, str(error))
    except SetupError as error:
        return fail(what, str(error))
    total = Count()
    for environment, folder in CLIENT_SUITES:
        command = [str(venvs.python(ROOT, environment)), "-m", "unittest", "discover", "-s", folder, "-v"]
        counted = run(command, count_unittest, PYTHONPATH=str(ROOT / "tests" / "python"))
        print(f"\n{folder} with {environment}: {counted}", flush=True)
        total = total.plus(counted)
    return total


def main() -> int:
    total = prepare()
    if not total.failed:
        for part in (script_tests, rust_tests, client_tests):
            total = total.plus(part())
    print(f"\n{total}", flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
