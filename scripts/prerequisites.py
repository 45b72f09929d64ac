"""What must be on the machine before set-up, and what to install where it is not."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

MIN_RUST = (1, 95)
# LibTorch's headers need C++17 in full.
MIN_GCC = (9,)
MIN_PYTHON = (3, 8)
# The wheels are built for `manylinux_2_28`.
MIN_GLIBC = (2, 28)
# The first that knows `--platform` together with `--require-hashes` for such wheels.
MIN_PIP = (20, 0)


def platform_problem(system: str, machine: str, libc: tuple[str, str], has_own_libtorch: bool) -> str | None:
    """Says why this platform is not supported; None if it is, or if the user takes the untested on himself."""
    if system == "Darwin":
        return "macOS is not supported: run Manifold in a Linux container or virtual machine"
    if system == "Windows":
        return "Windows is not supported: run Manifold under WSL 2"
    if system != "Linux":
        return f"{system} is not supported: only Linux is"
    if machine == "aarch64" and not has_own_libtorch:
        return (
            "Linux on aarch64 is untested and not supported: only x86_64 is. "
            "To try it all the same, set LIBTORCH to the absolute path of a LibTorch of your own"
        )
    if machine not in ("x86_64", "aarch64"):
        return f"Linux on {machine} is not supported: only x86_64 is"
    if libc[0] != "glibc":
        return "Linux with musl or another C library (Alpine) is not supported: LibTorch needs glibc"
    if _numbers(libc[1]) < MIN_GLIBC:
        return f"glibc {libc[1]} is too old: LibTorch needs {_dotted(MIN_GLIBC)} or newer (Debian 10, RHEL 8)"
    return None


def this_platform_problem() -> str | None:
    has_own_libtorch = bool(os.environ.get("LIBTORCH"))
    return platform_problem(platform.system(), platform.machine(), platform.libc_ver(), has_own_libtorch)


def missing_build_tools() -> list[str]:
    """What a build needs and this machine lacks: one plain line each."""
    problems = [
        f"{tool} is missing: install it (Debian, Ubuntu: apt install {tool}; Fedora: dnf install {tool})"
        for tool in ("git", "make")
        if not shutil.which(tool)
    ]
    return problems + [it for it in (_cxx_problem(), _rust_problem()) if it]


def missing_for_fetching() -> list[str]:
    """What fetching wheels needs and this machine lacks."""
    if sys.version_info[:2] < MIN_PYTHON:
        return [f"Python {platform.python_version()} is too old: install {_dotted(MIN_PYTHON)} or newer"]
    found = _version([sys.executable, "-m", "pip", "--version"], r"pip (\d+(?:\.\d+)+)")
    if found is None:
        return ["pip is missing: install it (Debian, Ubuntu: apt install python3-pip; Fedora: dnf install python3-pip)"]
    if found < MIN_PIP:
        return [f"pip {_dotted(found)} is too old: install {_dotted(MIN_PIP)} or newer"]
    return []


def disk_problem(folder: Path, n_bytes: int) -> str | None:
    """Says what to free where `folder` has less than `n_bytes` left."""
    free = shutil.disk_usage(folder).free
    if free >= n_bytes:
        return None
    return f"{folder} has {free / 1e9:.1f} GB free: set-up needs {n_bytes / 1e9:.1f} GB there"


def _cxx_problem() -> str | None:
    compiler = os.environ.get("CXX", "c++").split()[0]
    if not shutil.which(compiler):
        return (
            f"a C++ compiler ({compiler}) is missing: install one "
            "(Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)"
        )
    # GCC: `c++ (Debian 12.2.0-14) 12.2.0`. Clang says it otherwise, and any that is still about will do.
    found = _version([compiler, "--version"], r"\A[^\n]*\) (\d+(?:\.\d+)+)")
    if found and found < MIN_GCC:
        return f"{compiler} {_dotted(found)} is too old: install GCC {_dotted(MIN_GCC)} or newer, or Clang"
    return None


def _rust_problem() -> str | None:
    how = f"install Rust {_dotted(MIN_RUST)} or newer from https://rustup.rs"
    found = _version(["rustc", "--version"], r"rustc (\d+(?:\.\d+)+)")
    if found is None or not shutil.which("cargo"):
        hidden = Path.home() / ".cargo" / "bin" / "cargo"
        return f"cargo is not on the PATH: add {hidden.parent}" if hidden.exists() else f"Rust is missing: {how}"
    if found < MIN_RUST:
        return f"Rust {_dotted(found)} is too old: rustup update, or {how}"
    return None


def _version(command: list[str], pattern: str) -> tuple[int, ...] | None:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(pattern, done.stdout.decode(errors="replace"))
    return _numbers(found.group(1)) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
