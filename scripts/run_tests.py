"""`make test`: sets up, builds, runs every test that this machine can run, and counts.

Says loudly what it skips: only what this machine cannot run, never what merely went wrong. Its last line is `N passed,
N failed, N skipped`; a build or a runner that fails without a count counts as one failed test.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import compose_spec
import debian
import venvs
from wheels import SetupError

ROOT = Path(__file__).resolve().parent.parent
CARGO = os.environ.get("CARGO", "cargo")
# Every promise to clients with the newest boto3 and with the last 1.34; what brings a client of its own once.
CLIENT_SUITES = [("boto3", "tests/python"), ("boto3-1.34", "tests/python"), ("boto3", "tests/python/examples")]
# What is deployed, against schemas and programs.
DEPLOY_ENVIRONMENT = "kubernetes"
DEPLOY_SUITES = [(DEPLOY_ENVIRONMENT, "tests/deploy")]
# Any of these will do.
COMPOSE = [["docker-compose", "version"], ["docker", "compose", "version"]]
# Where a Rust test that this machine cannot run says so, a line each; for its runner it has passed.
SKIPPED = ROOT / "target" / "skipped-tests"
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
        [python, "scripts/setup.py", "libtorch", "protoc", "weights", "compose-spec"],
        # Tests and programs in one go: apart, they would compile some crates twice.
        [CARGO, "build", "--release", "--locked", "--workspace", "--lib", "--bins", "--tests"],
        ["target/release/manifold-zoo"],
    ):
        if run(step).failed:
            return Count(failed=1)
    return provide_debian()


def provide_debian() -> Count:
    """Programs that some tests need. Where there are none, those tests are skipped, each saying so itself."""
    try:
        debian.provide(ROOT)
    except debian.CannotRunHere as error:
        print(f"\n!! {error}", flush=True)
    except SetupError as error:
        return fail("the programs from Debian's archive", str(error))
    for program in debian.lacking(ROOT):
        print(f"\n!! {program} is not here: the tests that need it are skipped", flush=True)
    return Count()


def count_skipped(tested: Count) -> Count:
    """Takes the tests that skipped themselves out of those that passed."""
    said = SKIPPED.read_text().splitlines() if SKIPPED.exists() else []
    for line in said:
        print(f"!! SKIPPED: {line}", flush=True)
    return Count(tested.passed - len(said), tested.failed, tested.skipped + len(said))


def rust_tests() -> Count:
    flags = ["--release", "--locked", "--workspace"]
    SKIPPED.unlink(missing_ok=True)
    environment = {"MANIFOLD_SKIPPED": str(SKIPPED)}
    if shutil.which("cargo-nextest"):
        tested = run([CARGO, "nextest", "run", *flags], count_nextest, **environment)
    else:
        print("\n!! cargo-nextest is not installed: cargo test is used, with no time limit for a test", flush=True)
        # One test at a time, since clusters share the cores; nextest would see to that itself.
        flags_once = [*flags, "--lib", "--bins", "--tests", "--no-fail-fast"]
        tested = run([CARGO, "test", *flags_once, "--", "--test-threads=1"], count_cargo, **environment)
    return count_skipped(tested).plus(run([CARGO, "test", "--doc", *flags], count_cargo))


def script_tests() -> Count:
    suites = ("scripts", "worker/python/tests", "tests/mms")
    counts = (run([sys.executable, "-m", "unittest", "discover", "-s", it], count_unittest) for it in suites)
    return functools.reduce(Count.plus, counts)


def python_tests() -> Count:
    what = "the tests with the stock AWS clients (tests/python), and those of the manifests (tests/deploy)"
    try:
        venvs.provide(ROOT)
    except venvs.CannotRunHere as error:
        return skip(what, str(error))
    except SetupError as error:
        return fail(what, str(error))
    total = Count()
    for environment, folder in [*CLIENT_SUITES, *DEPLOY_SUITES]:
        total = total.plus(discover(environment, folder))
    return total


def discover(environment: str, folder: str, *flags: str) -> Count:
    command = [str(venvs.python(ROOT, environment)), "-m", "unittest", "discover", "-s", folder, "-v", *flags]
    counted = run(command, count_unittest, PYTHONPATH=str(ROOT / "tests" / "python"))
    print(f"\n{folder} with {environment}: {counted}", flush=True)
    return counted


def compose_files() -> Count:
    """Of the files that are deployed, those of Compose and what it mounts: they need no program of ours."""
    try:
        compose_spec.provide(ROOT)
        venvs.provide(ROOT, [DEPLOY_ENVIRONMENT])
    except venvs.CannotRunHere as error:
        return skip("the tests of compose.yaml (tests/deploy)", str(error))
    except SetupError as error:
        return fail("the tests of compose.yaml (tests/deploy)", str(error))
    return discover(DEPLOY_ENVIRONMENT, "tests/deploy", "-p", "test_[co]*.py")


def container_tests() -> Count:
    """compose.yaml as a cluster of containers. What it builds stays, so that a second run takes little."""
    lacking = lacking_for_containers()
    if lacking:
        return skip("the tests with containers (tests/containers)", lacking)
    return discover(DEPLOY_ENVIRONMENT, "tests/containers")


def lacking_for_containers() -> str | None:
    if not venvs.is_ready(ROOT, DEPLOY_ENVIRONMENT):
        return "what they are written with is not here (see above)"
    if not works(["docker", "version"]):
        return "no Docker engine answers"
    if not any(works(command) for command in COMPOSE):
        return "there is no docker-compose and no `docker compose`"
    return None


def works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--containers", action="store_true", help="compose.yaml alone: its files, and its containers")
    if parser.parse_args().containers:
        parts, total = (compose_files, container_tests), provide_debian()
    else:
        parts, total = (script_tests, rust_tests, python_tests, container_tests), prepare()
    if not total.failed:
        for part in parts:
            total = total.plus(part())
    print(f"\n{total}", flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
