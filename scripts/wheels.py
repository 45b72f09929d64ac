"""Fetches pinned wheels and installs what a recipe makes of them, so that it may be killed at any moment.

Everything on the way lies in `FOLDER/.staging`: what pip writes, finished wheels, the tree being built. The tree's
entries are renamed into `FOLDER` when all is there, the staging folder is removed, and a stamp with the pins is written
last of all. So whatever has no stamp is made again, from wheels that came whole as far as they are still there; and with
the right stamp nothing is left to do or to remove.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

from pins import Wheel
from progress import Progress

STAMP = ".stamp.json"
# A connection that gives nothing for so long is given up; pip then tries again, so often.
SILENCE_S = 60
RETRIES = 5

Recipe = Callable[["dict[str, Path]", Path], None]


class SetupError(Exception):
    """Set-up cannot go on. The text says what to do."""


def is_installed(folder: Path, wheels: list[Wheel], recipe_version: int) -> bool:
    try:
        return json.loads((folder / STAMP).read_text()) == _stamp(wheels, recipe_version)
    except (OSError, ValueError):
        return False


def install(folder: Path, wheels: list[Wheel], recipe: Recipe, recipe_version: int) -> None:
    """Brings `folder` to what `recipe` makes of `wheels`. `recipe_version` changes when the recipe's result does."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder) as held:
        if is_installed(folder, wheels, recipe_version):
            return
        staging = folder / ".staging"
        files = {wheel.name: _fetch(wheel, staging, held) for wheel in wheels}
        tree = _emptied(staging / "tree")
        recipe(files, tree)
        _swap_in(tree, folder)
        # Before the stamp: nobody would look for it after, and it holds half a gigabyte.
        shutil.rmtree(staging)
        write_whole(folder / STAMP, json.dumps(_stamp(wheels, recipe_version), indent=1))


def _stamp(wheels: list[Wheel], recipe_version: int) -> dict[str, object]:
    return {"recipe": recipe_version, "wheels": [wheel.requirement() for wheel in wheels]}


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[int]:
    """Lets one set-up at a time work on `folder`. The system releases it when its last holder is gone."""
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another set-up of {folder.name} to finish", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _fetch(wheel: Wheel, staging: Path, lock: int) -> Path:
    """Returns the wheel's file: one that an earlier set-up left whole, or a new one."""
    folder = staging / "wheels" / wheel.name
    found = _whole_wheel(folder, wheel)
    if found:
        return found
    # What a killed pip left is of no use, and the disk may have room for one copy only.
    incoming, scratch = _emptied(folder), _emptied(staging / "pip")
    with open(staging / "pip.log", "w+", encoding="utf-8") as log:
        status = _pip_download(wheel, incoming, scratch, (log, lock))
        log.seek(0)
        said = log.read()
    shutil.rmtree(scratch)
    found = _whole_wheel(folder, wheel)
    if status != 0 or not found:
        raise SetupError(f"pip could not get {wheel} (is the network up? the same command continues):\n{said}")
    return found


def _pip_download(wheel: Wheel, incoming: Path, scratch: Path, log_and_lock: tuple) -> int:
    log, lock = log_and_lock
    requirements = scratch / "requirements.txt"
    requirements.write_text(wheel.requirement() + "\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(incoming), "--platform", wheel.platform]
    command += ["--python-version", wheel.python, "--implementation", wheel.implementation, "--abi", wheel.abi]
    # pip's cache would be a second copy of half a gigabyte.
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["--timeout", str(SILENCE_S), "--retries", str(RETRIES)]
    # pip keeps the lock while it lives: if this process is killed and pip is not, the next set-up waits for it.
    environment = {**os.environ, "TMPDIR": str(scratch), "PIP_REQUIRE_VIRTUALENV": "0"}
    progress = Progress(f"fetching {wheel}", wheel.n_bytes)
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,)
    ) as pip:
        while pip.poll() is None:
            progress.show(n_bytes(scratch))
            time.sleep(0.2)
    progress.end(complete=pip.returncode == 0)
    return pip.returncode


def _whole_wheel(folder: Path, wheel: Wheel) -> Path | None:
    return next((it for it in sorted(folder.glob("*.whl")) if _sha256(it) == wheel.sha256), None)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _swap_in(tree: Path, folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / STAMP).unlink()
    for entry in sorted(tree.iterdir()):
        target = folder / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(entry, target)


def write_whole(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(text)
    os.replace(partial, path)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def n_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # pip removes files while this looks.
            with contextlib.suppress(OSError):
                total += os.path.getsize(os.path.join(parent, name))
    return total
