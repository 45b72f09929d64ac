"""A folder of its own for a test, and a stand-in for the package index: pip itself runs for real."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import pins


class Sandbox(unittest.TestCase):
    """A folder of its own, and an index that is a folder of wheels: pip itself runs for real."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)
        self.index = self.root / "index"
        self.index.mkdir()
        self.folder = self.root / "target"
        environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_CONFIG_FILE": os.devnull}
        for patch in (mock.patch.dict(os.environ, environment), mock.patch("sys.stdout", io.StringIO())):
            patch.start()
            self.addCleanup(patch.stop)

    def wheel(self, name: str, files: dict[str, bytes]) -> pins.Wheel:
        path = self.index / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for file, data in files.items():
                archive.writestr(file, data)
            info = f"{name}-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        return pins.Wheel(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
