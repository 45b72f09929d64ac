"""The JSON schema of the Compose specification, out of the wheel of docker-compose, for the tests of compose.yaml."""

from __future__ import annotations

import zipfile
from pathlib import Path

import prerequisites
import wheels
from pins import COMPOSE_SPEC

# Changes when `unpack` makes something else of the same wheel.
RECIPE_VERSION = 1
FOLDER = Path(".manifold") / "compose-spec"
NAME = "compose_spec.json"


def provide(root: Path) -> None:
    folder = root / FOLDER
    if wheels.is_installed(folder, COMPOSE_SPEC, RECIPE_VERSION):
        return
    problems = prerequisites.missing_for_fetching()
    if problems:
        raise wheels.SetupError("\n".join(problems))
    wheels.install(folder, COMPOSE_SPEC, unpack, RECIPE_VERSION)


def unpack(files: dict[str, Path], tree: Path) -> None:
    for path in files.values():
        with zipfile.ZipFile(path) as wheel:
            (tree / NAME).write_bytes(wheel.read(f"compose/config/{NAME}"))
