"""What becomes of the wheel of PyTorch, and of a LibTorch of one's own."""

from __future__ import annotations

import os
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import libtorch
import wheels
from sandbox import Sandbox


class LibTorch(Sandbox):
    def test_only_what_a_cpu_needs_is_unpacked(self) -> None:
        names = {
            "torch/lib/libtorch_cpu.so": True,
            "torch/lib/libc10.so": True,
            "torch/lib/libgomp.so.1": True,
            "torch/include/torch/script.h": True,
            "nvidia/cu13/lib/libcudart.so.13": True,
            "nvidia/cu13/lib/libcupti.so.13": True,
            "torch/lib/libtorch.so": False,
            "torch/lib/libtorch_cuda.so": False,
            "torch/lib/libtorch_cuda_linalg.so": False,
            "torch/lib/libc10_cuda.so": False,
            "torch/lib/libtorch_python.so": False,
            "torch/__init__.py": False,
            "torch/bin/protoc": False,
            "nvidia/cu13/lib/libnvperf_host.so": False,
            "nvidia/cu13/lib/libcudart_static.a": False,
            "nvidia/cu13/include/cuda.h": False,
        }
        for name, needed in names.items():
            self.assertEqual(libtorch.is_needed(zipfile.ZipInfo(name)), needed, name)

    def test_the_tree_can_be_linked_and_names_its_version(self) -> None:
        torch = self.wheel("torch", {"torch/lib/libtorch_cpu.so": b"cpu", "torch/lib/libtorch.so": b"cuda"})
        wheels.install(self.folder, [torch], libtorch.unpack, 1)
        self.assertEqual((self.folder / "torch/lib/libtorch.so").read_text(), "INPUT(-ltorch_cpu)\n")
        self.assertEqual((self.folder / "torch/build-version").read_text(), "2.13.0\n")

    def own(self, version: str) -> Path:
        for name in ("lib/libtorch_cpu.so", "include/torch/csrc/api/include/torch/torch.h", "build-version"):
            path = self.root / "own" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(version)
        return self.root / "own"

    def test_a_libtorch_of_ones_own_is_used_and_nothing_fetched(self) -> None:
        for version in ("2.13.0", "2.13.0+cu130\n"):
            with mock.patch.dict(os.environ, {"LIBTORCH": str(self.own(version))}):
                libtorch.provide(self.root)
            self.assertFalse((self.root / ".libtorch").exists())

    def test_a_libtorch_of_ones_own_must_be_the_right_one(self) -> None:
        for folder in (self.own("2.12.1"), self.root / "absent"):
            with mock.patch.dict(os.environ, {"LIBTORCH": str(folder)}):
                self.assertRaisesRegex(wheels.SetupError, str(folder), libtorch.provide, self.root)

    def test_a_relative_path_is_refused_as_the_build_would_look_for_it_elsewhere(self) -> None:
        with mock.patch.dict(os.environ, {"LIBTORCH": "libtorch"}):
            self.assertRaisesRegex(wheels.SetupError, "relative path libtorch", libtorch.provide, self.root)

    def test_nothing_is_written_through_a_link_to_somebody_elses_folder(self) -> None:
        shared = self.root / "shared"
        shared.mkdir()
        self.own("2.13.0").rename(shared / "torch")
        (self.root / ".libtorch").symlink_to(shared)
        before = sorted(shared.rglob("*"))
        with mock.patch.dict(os.environ):
            os.environ.pop("LIBTORCH", None)
            libtorch.provide(self.root)
        self.assertEqual(sorted(shared.rglob("*")), before)


if __name__ == "__main__":
    unittest.main()
