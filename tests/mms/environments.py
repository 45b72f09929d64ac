"""The virtual environments of these suites: below `.manifold/python`, made with Python 3.11's pip, kept when whole.

What cannot be made here is a reason to skip, never one to fail: `make test` needs none of it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".manifold" / "python"
# Written last: an environment without it is made anew.
STAMP = ".requirements"
# MXNet's last wheels want NumPy 1.23, which ends with Python 3.11.
PYTHON = "python3.11"
MIN_JAVA = 17
# Some hundred megabytes, from afar.
PIP_PATIENCE_S = 1800


class CannotRunHere(Exception):
    """This machine lacks what the original needs."""


def interpreter() -> str:
    """Returns Python 3.11's own path."""
    try:
        told = subprocess.run([PYTHON, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    except OSError:
        told = None
    if told is None or told.returncode != 0:
        raise CannotRunHere(f"{PYTHON} is not here (Debian 12: apt install python3.11 python3.11-venv)")
    return told.stdout.strip()


def check_java() -> None:
    try:
        told = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    except OSError:
        told = ""
    found = re.search(r'version "(\d+)', told)
    if not found or int(found.group(1)) < MIN_JAVA:
        raise CannotRunHere(f"Java {MIN_JAVA} or newer is not here (Debian 12: apt install openjdk-17-jre-headless)")


def provide(name: str, *requirements: Path) -> Path:
    """Makes an environment with what these files pin, unless it is there; returns its folder."""
    folder = FOLDER / name
    wanted = hashlib.sha256(b"".join(it.read_bytes() for it in requirements)).hexdigest()
    stamp = f"{interpreter()}\n{folder}\n{wanted}\n"
    if (folder / STAMP).is_file() and (folder / STAMP).read_text() == stamp:
        return folder
    print(f"set-up: the virtual environment {folder.relative_to(ROOT)} (once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    # Without requirements it is an interpreter with nothing but its own modules.
    _run([interpreter(), "-m", "venv", *([] if requirements else ["--without-pip"]), str(folder)])
    if requirements:
        files = [it for file in requirements for it in ("--requirement", str(file))]
        flags = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--quiet"]
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", *flags, *files])
    (folder / STAMP).write_text(stamp)
    return folder


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PIP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise CannotRunHere(f"`{' '.join(command[:6])} …` took longer than {PIP_PATIENCE_S} s") from None
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")[-2000:]
        raise CannotRunHere(f"`{' '.join(command[:6])} …` failed (is the package index in reach?):\n{said}")


def skip(what: str, why: object) -> int:
    """Says loudly that nothing was tried; that is no failure."""
    print(f"\n!! SKIPPED: {what}: {why}\n\n0 passed, 0 failed, 1 skipped", flush=True)
    return 0


def check_worker(worker: Path) -> None:
    if not worker.is_file():
        sys.exit(f"{worker} is not built: make build")


def run_suite(command: list) -> int:
    """Runs a suite of unittest's by another interpreter, shows it as it goes, and counts its tests; returns its status."""
    said = []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen([str(it) for it in command], **pipes) as running:
        for line in running.stdout:
            said.append(line)
            print(line, end="", flush=True)
    text = "".join(said)
    n_run = sum(int(it) for it in re.findall(r"^Ran (\d+) tests? in", text, re.M))
    n_failed = sum(int(it) for it in re.findall(r"(?:failures|errors)=(\d+)", text))
    n_failed = max(n_failed, 1) if running.returncode else 0
    print(f"\n{max(n_run - n_failed, 0)} passed, {n_failed} failed, 0 skipped", flush=True)
    return running.returncode
