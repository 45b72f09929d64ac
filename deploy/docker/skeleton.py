"""Writes the workspace with every program and library empty: `skeleton.py FOLDER`.

A layer that compiles the dependencies depends on this alone, so that a change of the code compiles our own crates only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    target = Path(sys.argv[1])
    for name in ("Cargo.toml", "Cargo.lock", ".cargo"):
        copy(ROOT / name, target / name)
    for manifest in ROOT.glob("*/Cargo.toml"):
        copy(manifest, target / manifest.relative_to(ROOT))
        fill_in(target, manifest)
    print(f"{target}: an empty workspace", flush=True)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


def fill_in(target: Path, manifest: Path) -> None:
    """Makes every file that the manifest or Cargo's rules name: also those that are not in the image's context."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path", str(manifest)]
    package_id = str(manifest)
    for package in json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]:
        if package["manifest_path"] != package_id:
            continue
        for it in package["targets"]:
            path = target / Path(it["src_path"]).relative_to(ROOT)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("" if "lib" in it["kind"] else "fn main() {}\n")


if __name__ == "__main__":
    main()
