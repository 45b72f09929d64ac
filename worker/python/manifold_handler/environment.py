"""Makes a virtual environment with what a model's `requirements.txt` names. Started as handler processes are."""

from __future__ import annotations

import collections
import os
import shutil
import site
import subprocess
import sys
import venv

from .parent import die_with

# Holds what made an environment; written last, so that one without it is half made.
_COMPLETE = "complete"
# What of an installation's errors the worker is told.
_TOLD_LINES = 6


def main() -> None:
    die_with(os.getppid())
    folder, requirements = sys.argv[2:4]
    if not _is_complete(folder):
        shutil.rmtree(folder, ignore_errors=True)
        # The interpreter's own libraries are there, too; what is installed goes before them.
        venv.create(folder, system_site_packages=True, symlinks=True)
        _let_find(site.getsitepackages(), folder)
        _install(folder, requirements)
        with open(os.path.join(folder, _COMPLETE), "w", encoding="utf-8") as file:
            file.write(_maker())


def _maker() -> str:
    return f"{sys.version} {sys.prefix}"


def _is_complete(folder: str) -> bool:
    try:
        with open(os.path.join(folder, _COMPLETE), encoding="utf-8") as file:
            return file.read() == _maker()
    except FileNotFoundError:
        return False


def _let_find(packages: list[str], folder: str) -> None:
    """Of an interpreter that is a virtual environment itself, a new one would find the system's libraries alone."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = os.path.join(folder, "lib", version, "site-packages", "interpreter.pth")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{it}\n" for it in packages)


def _install(folder: str, requirements: str) -> None:
    pip = [os.path.join(folder, "bin", "python"), "-m", "pip", "install"]
    options = ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar=off"]
    installing = subprocess.Popen(
        [*pip, *options, "--requirement", requirements],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # What the file names beside itself, it names from there.
        cwd=os.path.dirname(requirements),
        preexec_fn=_die_with_us(os.getpid()),
    )
    told: collections.deque[str] = collections.deque(maxlen=_TOLD_LINES)
    for line in installing.stderr:
        print(line, end="", flush=True)
        told.append(line)
    if installing.wait() != 0:
        sys.exit("".join(told).strip() or f"pip ended with status {installing.returncode}")


def _die_with_us(own: int):
    return lambda: die_with(own)
