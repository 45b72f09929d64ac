"""The stock AWS client for Python, unzipped into `.python/`: used through PYTHONPATH, installed nowhere."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import prerequisites
import wheels
from pins import TEST_TOOLS, TEST_TOOLS_PYTHON

# Changes when `unzip` makes something else of the same wheels.
RECIPE_VERSION = 1


class PythonTooOld(wheels.SetupError):
    """This Python cannot run the stock AWS client: no fault of ours, and nothing that trying again would mend."""


def provide(root: Path) -> None:
    folder = root / ".python"
    if wheels.is_installed(folder, TEST_TOOLS, RECIPE_VERSION):
        return
    if sys.version_info[:2] < TEST_TOOLS_PYTHON:
        needed = ".".join(map(str, TEST_TOOLS_PYTHON))
        raise PythonTooOld(f"the stock AWS client needs Python {needed} or newer")
    problems = prerequisites.missing_for_fetching()
    if problems:
        raise wheels.SetupError("\n".join(problems))
    print("set-up: the stock AWS client into .python/ (once, for the tests; 16 MB to fetch)", flush=True)
    wheels.install(folder, TEST_TOOLS, unzip, RECIPE_VERSION)


def unzip(files: dict[str, Path], tree: Path) -> None:
    for path in files.values():
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(tree)
