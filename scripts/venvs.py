"""The virtual environments of the Python tests: `.python/NAME` has what `tests/python/requirements/NAME.txt` pins.

An environment is made in place and its stamp is written last: what has no stamp is made anew, from what pip has
fetched so far. With the right stamps nothing is left to do. The environments have no pip of their own, because some
distributions keep the module that would put it there in a package apart; the pip that runs this fills them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterable

import prerequisites
import wheels
from progress import Progress

# The oldest that the pinned packages run on.
MIN_PYTHON = (3, 10)
# What each environment takes on the disk, for the progress that is shown: the newest AWS client with Jupyter, the last
# 1.34, and so on.
N_BYTES = {
    "boto3": 75_000_000,
    "boto3-1.34": 70_000_000,
    "awscli": 137_000_000,
    "sagemaker-v2": 168_000_000,
    "sagemaker-v3": 295_000_000,
    "kubernetes": 78_000_000,
}
# All of them, and what pip keeps while it works.
NEEDED_BYTES = 1_400_000_000
# Changes when `_make` makes something else of the same requirements.
RECIPE_VERSION = 1


class CannotRunHere(wheels.SetupError):
    """This machine cannot run the clients: no fault of ours, and nothing that trying again would mend."""


def provide(root: Path, names: Iterable[str] | None = None) -> None:
    """Makes every environment, or every one of `names`, that is not there."""
    folder = root / ".python"
    lacking = [name for name in names or N_BYTES if not is_ready(root, name)]
    if not lacking:
        return
    _check(root)
    folder.mkdir(exist_ok=True)
    print(f"set-up: {len(lacking)} virtual environments into .python/ (once, for the tests)", flush=True)
    with wheels.lock(folder) as lock:
        for name in lacking:
            if not is_ready(root, name):
                _make(root, name, lock)
        # With them pip's cache, which is there for those who are interrupted.
        for entry in folder.iterdir():
            if entry.name not in N_BYTES and entry.is_dir():
                shutil.rmtree(entry)


def python(root: Path, name: str) -> Path:
    """Returns the interpreter of an environment."""
    return root / ".python" / name / "bin" / "python"


def is_ready(root: Path, name: str) -> bool:
    try:
        return json.loads((root / ".python" / name / wheels.STAMP).read_text()) == _stamp(root, name)
    except (OSError, ValueError):
        return False


def _check(root: Path) -> None:
    if sys.version_info[:2] < MIN_PYTHON:
        needed = ".".join(map(str, MIN_PYTHON))
        raise CannotRunHere(f"the stock AWS clients need Python {needed} or newer")
    if platform.machine() != "x86_64":
        raise CannotRunHere(f"the stock AWS clients are pinned for x86_64 alone, and this is {platform.machine()}")
    problems = prerequisites.missing_for_fetching()
    disk = prerequisites.disk_problem(root, NEEDED_BYTES)
    if problems or disk:
        raise wheels.SetupError("\n".join([*problems, *([disk] if disk else [])]))


def _stamp(root: Path, name: str) -> dict[str, object]:
    requirements = _requirements(root, name).read_bytes()
    return {
        "recipe": RECIPE_VERSION,
        "requirements": hashlib.sha256(requirements).hexdigest(),
        # An environment belongs to one interpreter, and knows where it lies.
        "python": [platform.python_version(), sys.base_prefix],
        "folder": str(root.resolve() / ".python" / name),
    }


def _requirements(root: Path, name: str) -> Path:
    return root / "tests" / "python" / "requirements" / f"{name}.txt"


def _make(root: Path, name: str, lock: int) -> None:
    folder = root / ".python" / name
    # Beside the environment: /tmp may be memory.
    scratch = root / ".python" / ".pip" / "scratch"
    for it in (folder, scratch):
        shutil.rmtree(it, ignore_errors=True)
    scratch.mkdir(parents=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], name)
    with open(root / ".python" / ".pip" / "log", "w+", encoding="utf-8") as log:
        status = _pip_install(root, name, scratch, (log, lock))
        log.seek(0)
        said = log.read()
    if status != 0:
        raise wheels.SetupError(f"pip could not fill {folder} (is the network up? the same command continues):\n{said}")
    wheels.write_whole(folder / wheels.STAMP, json.dumps(_stamp(root, name), indent=1))


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")
        raise wheels.SetupError(f"the virtual environment {name} could not be made:\n{said}")


def _pip_install(root: Path, name: str, scratch: Path, log_and_lock: tuple) -> int:
    log, lock = log_and_lock
    folder = root / ".python" / name
    # This interpreter's pip, run by the environment's. pip's own `--python` does the same, but is younger than 22.04.
    command = [str(python(root, name)), _pip_program(), "install", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    # What this interpreter has installed is in sight of pip then, and must not count.
    command += ["--ignore-installed", "--requirement", str(_requirements(root, name))]
    # Compiling everything takes longer than compiling what is used, when it is used.
    command += ["--no-compile", "--cache-dir", str(root / ".python" / ".pip" / "cache")]
    command += ["--disable-pip-version-check", "--no-input", "--no-warn-script-location", "--progress-bar", "off"]
    command += ["--timeout", str(wheels.SILENCE_S), "--retries", str(wheels.RETRIES)]
    # Settings of this machine's pip stay (an index, a certificate), but for where it installs to.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
    for variable in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX"):
        environment.pop(variable, None)
    progress = Progress(f"filling {name}", N_BYTES[name])
    # pip keeps the lock while it lives: if this process is killed and pip is not, the next set-up waits for it.
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,)
    ) as pip:
        while pip.poll() is None:
            progress.show(wheels.n_bytes(folder))
            time.sleep(0.5)
    progress.end(complete=pip.returncode == 0)
    return pip.returncode


def _pip_program() -> str:
    found = importlib.util.find_spec("pip")
    if not found or not found.origin:
        raise wheels.SetupError("pip is missing: install it (Debian, Ubuntu: apt install python3-pip)")
    return str(Path(found.origin).parent)
