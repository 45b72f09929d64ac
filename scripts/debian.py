"""Programs that only tests need, from Debian's archive: fetched with apt, unpacked into `.debian/`, never installed.

No root, no service that starts, nothing outside of `.debian/`: where the machine has no package lists, they are fetched
there too. apt checks signatures. Tests look for a program on the PATH first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import wheels

# Changes when `_unpack` makes something else of the same packages.
RECIPE_VERSION = 2
# A package, and the program that tests want of it (None: none that tests look for). All but those of `LINKED` need
# nothing but the C library.
PACKAGES = {
    "etcd-server": "etcd",
    "etcd-client": "etcdctl",
    "prometheus": "promtool",
    # It renders deploy/kubernetes; no cluster is asked.
    "kubernetes-client": "kubectl",
    # The balancer before two routers.
    "haproxy": "haproxy",
    # What makes a stand-in for Debian's image (base_images.py).
    "debootstrap": None,
}
# Packages whose libraries are fetched, too, where the machine lacks them: whoever starts their programs names
# `.debian/usr/lib/*` in LD_LIBRARY_PATH.
LINKED = ["haproxy"]
# apt gives up on a silent mirror after this long, so often.
SILENCE_S = 20
RETRIES = 2
# All of it: fifty megabytes in a minute, on a slow line in ten.
PATIENCE_S = 600


class CannotRunHere(wheels.SetupError):
    """This machine has no Debian packages to offer."""


def provide(root: Path) -> None:
    folder = root / ".debian"
    # Another work tree's is used as it is.
    if folder.is_symlink() or _is_ready(folder):
        return
    missing = [it for it in ("apt-get", "apt-cache", "dpkg-deb") if not shutil.which(it)]
    if missing:
        raise CannotRunHere(f"{', '.join(missing)}: not here, so this is no Debian or Ubuntu; install etcd, "
                            "Prometheus, HAProxy and kubectl in the way of this system, and they are taken from the PATH")
    print("set-up: etcd, promtool, haproxy and kubectl into .debian/ (once, for the tests; 42 MB to fetch)", flush=True)
    folder.mkdir(exist_ok=True)
    with wheels.lock(folder):
        if not _is_ready(folder):
            _make(folder)


def lacking(root: Path) -> list[str]:
    """The programs that tests would not find."""
    programs = [it for it in PACKAGES.values() if it]
    return [it for it in programs if not shutil.which(it) and not list((root / ".debian" / "usr").glob(f"*bin/{it}"))]


def _is_ready(folder: Path) -> bool:
    try:
        return json.loads((folder / wheels.STAMP).read_text()) == _stamp()
    except (OSError, ValueError):
        return False


def _stamp() -> dict[str, object]:
    return {"recipe": RECIPE_VERSION, "packages": sorted(PACKAGES)}


def _make(folder: Path) -> None:
    for name in (wheels.STAMP, ".staging", "usr", "etc", "lib"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    staging = folder / ".staging"
    (staging / "packages").mkdir(parents=True)
    options = _options()
    if not _knows_packages():
        print("set-up: fetching the lists of Debian's packages", flush=True)
        for part in ("lists/partial", "archives/partial"):
            (staging / part).mkdir(parents=True)
        options += ["-o", f"Dir::State::Lists={staging / 'lists'}", "-o", f"Dir::Cache={staging}"]
        _run(["apt-get", *options, "update"], staging)
    packages = [*sorted(PACKAGES), *_libraries(options)]
    _run(["apt-get", *options, "download", *packages], staging / "packages")
    for package in sorted((staging / "packages").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(staging / "tree")], staging)
    for entry in (staging / "tree").iterdir():
        # What a server would need to be run by the system is of no use here.
        if entry.name == "usr":
            os.replace(entry, folder / entry.name)
    shutil.rmtree(staging)
    wheels.write_whole(folder / wheels.STAMP, json.dumps(_stamp(), indent=1))


def _options() -> list[str]:
    options = ["-q", "-o", f"Acquire::Retries={RETRIES}", "-o", f"Acquire::http::Timeout={SILENCE_S}"]
    options += ["-o", f"Acquire::https::Timeout={SILENCE_S}"]
    # As root, apt would fetch as a user who may not write here.
    return options + (["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else [])


def _knows_packages() -> bool:
    known = subprocess.run(["apt-cache", "show", *sorted(PACKAGES)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return known.returncode == 0


def _libraries(options: list[str]) -> list[str]:
    """The packages of libraries that `LINKED` need and this machine lacks."""
    looked_at, to_look_at = set(LINKED), list(LINKED)
    while to_look_at:
        command = ["apt-cache", *options, "depends", to_look_at.pop()]
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
        needed = set(re.findall(r"^ *Depends: (lib\S+)$", told.stdout, re.MULTILINE)) - looked_at
        looked_at |= needed
        to_look_at += [it for it in needed if not _is_installed(it)]
    return sorted(it for it in looked_at.difference(LINKED) if not _is_installed(it))


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
    # Of several architectures, one after the other.
    return "installed" in told.stdout and "not-installed" not in told.stdout


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise wheels.SetupError(f"{' '.join(command[:1])} took longer than {PATIENCE_S} s") from None
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")
        raise wheels.SetupError(f"{' '.join(command)} failed (is the network up? the same command continues):\n{said}")
