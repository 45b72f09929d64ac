"""Set-up with tiny wheels and a stand-in for the index: what is kept, what is made again, what is refused."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import libtorch
import pins
import prerequisites
import progress
import weights
import wheels

SCRIPTS = Path(__file__).resolve().parent


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


def copy_greeting(files: dict[str, Path], tree: Path) -> None:
    with zipfile.ZipFile(files["hello"]) as wheel:
        (tree / "greeting").write_bytes(wheel.read("greeting"))


class Installing(Sandbox):
    def setUp(self) -> None:
        super().setUp()
        self.hello = self.wheel("hello", {"greeting": b"good day"})

    def install(self, recipe=copy_greeting, version=1, wheel=None) -> None:
        wheels.install(self.folder, [wheel or self.hello], recipe, version)

    def greeting(self) -> bytes:
        return (self.folder / "greeting").read_bytes()

    def test_the_result_is_there_and_nothing_else(self) -> None:
        self.install()
        self.assertEqual(self.greeting(), b"good day")
        self.assertTrue(wheels.is_installed(self.folder, [self.hello], 1))
        self.assertEqual(sorted(it.name for it in self.folder.iterdir()), [".lock", ".stamp.json", "greeting"])

    def test_a_second_time_nothing_is_done(self) -> None:
        self.install()
        self.install(recipe=lambda files, tree: self.fail("made again"))

    def test_another_recipe_or_pin_is_made_anew(self) -> None:
        self.install()
        (self.folder / "greeting").write_bytes(b"old")
        self.install(version=2)
        self.assertEqual(self.greeting(), b"good day")
        self.assertFalse(wheels.is_installed(self.folder, [self.hello], 1))

    def test_a_wheel_that_came_whole_is_kept_when_unpacking_is_interrupted(self) -> None:
        def interrupted(files, tree):
            (tree / "greeting").write_bytes(b"half")
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.install(recipe=interrupted)
        self.assertFalse((self.folder / "greeting").exists())
        next(self.index.iterdir()).unlink()
        self.install()
        self.assertEqual(self.greeting(), b"good day")

    def test_a_half_written_wheel_is_fetched_again(self) -> None:
        partial = self.folder / ".staging" / "wheels" / "hello" / "hello-1.0-py3-none-any.whl"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"half")
        (self.folder / ".staging" / "pip").mkdir()
        (self.folder / ".staging" / "pip" / "left-by-a-killed-pip").write_bytes(b"half")
        self.install()
        self.assertEqual(self.greeting(), b"good day")

    def test_an_interrupted_swap_is_finished(self) -> None:
        self.folder.mkdir()
        (self.folder / "greeting").write_bytes(b"old, and without a stamp")
        self.install()
        self.assertEqual(self.greeting(), b"good day")

    def test_a_wrong_digest_is_refused(self) -> None:
        wrong = pins.Wheel("hello", "1.0", "0" * 64, 1)
        with self.assertRaisesRegex(wheels.SetupError, "hello 1.0"):
            self.install(wheel=wrong)
        self.assertFalse((self.folder / wheels.STAMP).exists())

    def test_a_torn_stamp_counts_as_none(self) -> None:
        self.install()
        (self.folder / wheels.STAMP).write_text('{"recipe": 1')
        self.assertFalse(wheels.is_installed(self.folder, [self.hello], 1))

    def test_killed_at_any_moment_it_continues(self) -> None:
        program = self.root / "program.py"
        program.write_text(
            textwrap.dedent(
                f"""
                import sys; sys.path.insert(0, {str(SCRIPTS)!r})
                import test_setup, wheels, pins, pathlib
                wheels.install(pathlib.Path({str(self.folder)!r}), [pins.{self.hello!r}], test_setup.copy_greeting, 1)
                """
            )
        )
        # From before pip begins to after all is done; a run takes under a second or two.
        for delay_s in (0.05, 0.2, 0.4, 0.6, 0.9, 1.3):
            run = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.DEVNULL)
            try:
                run.wait(timeout=delay_s)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
            run.wait()
            if wheels.is_installed(self.folder, [self.hello], 1):
                self.assertEqual(self.greeting(), b"good day")
        subprocess.run([sys.executable, str(program)], check=True, stdout=subprocess.DEVNULL, timeout=60)
        self.assertEqual(self.greeting(), b"good day")
        self.assertFalse((self.folder / ".staging").exists())

    def test_killed_just_before_the_stamp_it_leaves_no_staging_folder_for_ever(self) -> None:
        with mock.patch.object(wheels, "_write_whole", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, self.install)
        self.assertFalse((self.folder / ".staging").exists())
        self.install()
        self.assertEqual(sorted(it.name for it in self.folder.iterdir()), [".lock", ".stamp.json", "greeting"])

    def test_two_at_once_take_turns(self) -> None:
        n_made = []

        def slow(files, tree):
            n_made.append(1)
            copy_greeting(files, tree)
            self.assertFalse(self.try_lock(), "a second set-up could begin")

        self.install(recipe=slow)
        self.assertEqual(len(n_made), 1)
        self.assertTrue(self.try_lock())

    def try_lock(self) -> bool:
        command = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        lock = str(self.folder / ".lock")
        done = subprocess.run([sys.executable, "-c", command, lock], stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0


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


def legacy_pickle(state: bytes, storages: dict[str, bytes], n_items: int) -> bytes:
    parts = [pickle.dumps(it, 2) for it in (weights.LEGACY_MAGIC, weights.LEGACY_PROTOCOL, {"little_endian": True})]
    parts += [state, pickle.dumps(list(storages), 2)]
    return b"".join(parts) + b"".join(struct.pack("<q", n_items) + data for data in storages.values())


def state_dict(shape: tuple, stride: tuple, offset: int = 0, kind: str = "FloatStorage") -> bytes:
    """What old PyTorch pickles for one tensor, written by hand: no PyTorch is needed to test."""
    ints = lambda values: b"(" + b"".join(b"K" + bytes([it]) for it in values) + b"t"
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("key") + text("cpu") + b"K\x06Nt" + b"Q"
    gradient_hooks = b"\x89ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + b"K" + bytes([offset]) + ints(shape) + ints(stride) + gradient_hooks + b"t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return b"\x80\x02ccollections\nOrderedDict\n)R" + text("layer.weight") + tensor + b"s."


class Weights(unittest.TestCase):
    DATA = struct.pack("<6f", 0, 1, 2, 3, 4, 5)

    def read(self, state: bytes, data: bytes = DATA, n_items: int = 6):
        return weights.read_legacy_pickle(legacy_pickle(state, {"key": data}, n_items))

    def test_tensors_come_out_with_shape_and_bytes(self) -> None:
        self.assertEqual(self.read(state_dict((2, 3), (3, 1))), {"layer.weight": ("F32", (2, 3), self.DATA)})
        self.assertEqual(self.read(state_dict((2,), (1,), offset=4))["layer.weight"][2], self.DATA[16:])

    def test_a_tensor_in_another_order_is_put_in_order(self) -> None:
        for shape, strides, expected in (
            ((3, 2), (1, 3), (0, 3, 1, 4, 2, 5)),
            ((3, 1, 2, 1), (1, 9, 3, 9), (0, 3, 1, 4, 2, 5)),
            ((1, 1), (1, 1), (0,)),
            ((), (), (0,)),
            ((0, 3), (3, 1), ()),
        ):
            _, read_shape, data = self.read(state_dict(shape, strides))["layer.weight"]
            self.assertEqual((read_shape, struct.unpack(f"<{len(expected)}f", data)), (shape, expected))

    def test_what_is_not_plain_weights_is_refused(self) -> None:
        code = b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00trueteR."
        for name, state, data, n_items in (
            ("code", code, self.DATA, 6),
            ("builtins", b"\x80\x02c__builtin__\neval\n.", self.DATA, 6),
            ("a stride too few", state_dict((2, 3), (1,)), self.DATA, 6),
            ("beyond its storage", state_dict((2, 3), (3, 1), offset=1), self.DATA, 6),
            ("short", state_dict((2, 3), (3, 1)), self.DATA[:-1], 6),
            ("negative", state_dict((2, 3), (3, 1)), self.DATA, -6),
            ("unknown storage", state_dict((2, 3), (3, 1), kind="HalfStorage"), self.DATA, 6),
        ):
            with self.subTest(name), self.assertRaises((weights.WeightsError, pickle.UnpicklingError)):
                self.read(state, data, n_items)

    def test_another_kind_of_file_is_refused(self) -> None:
        with self.assertRaises(weights.WeightsError):
            weights.read_legacy_pickle(pickle.dumps(1, 2) * 4)

    def test_safetensors_hold_what_went_in(self) -> None:
        tensors = {"b": ("F32", (1,), b"\1\2\3\4"), "count": ("I64", (), bytes(8)), "a": ("F32", (2,), bytes(8))}
        data = weights.to_safetensors(tensors)
        (n_header,) = struct.unpack("<Q", data[:8])
        header, body = json.loads(data[8 : 8 + n_header]), data[8 + n_header :]
        self.assertEqual(n_header % 8, 0)
        for name, (dtype, shape, expected) in tensors.items():
            begin, end = header[name]["data_offsets"]
            self.assertEqual((header[name]["dtype"], tuple(header[name]["shape"])), (dtype, shape))
            self.assertEqual(body[begin:end], expected)
        self.assertEqual(header["count"]["data_offsets"], [0, 8])


class Prerequisites(unittest.TestCase):
    def test_platforms_are_named_when_they_are_not_supported(self) -> None:
        for system, machine, libc, said in (
            ("Linux", "x86_64", ("glibc", "2.36"), None),
            ("Linux", "aarch64", ("glibc", "2.28"), "untested"),
            ("Linux", "x86_64", ("glibc", "2.27"), "glibc 2.27 is too old"),
            ("Linux", "x86_64", ("", ""), "musl"),
            ("Linux", "riscv64", ("glibc", "2.40"), "riscv64"),
            ("Darwin", "arm64", ("", ""), "macOS"),
            ("Windows", "AMD64", ("", ""), "Windows"),
            ("FreeBSD", "amd64", ("", ""), "FreeBSD"),
        ):
            problem = prerequisites.platform_problem(system, machine, libc, has_own_libtorch=False)
            if said:
                self.assertIn(said, problem or "")
            else:
                self.assertIsNone(problem)

    def test_aarch64_may_be_tried_with_a_libtorch_of_ones_own(self) -> None:
        glibc = ("glibc", "2.36")
        self.assertIsNone(prerequisites.platform_problem("Linux", "aarch64", glibc, has_own_libtorch=True))

    def make_setup(self, python: str) -> str:
        """Runs `make setup`, which must fail, and returns what it says."""
        make = ["make", "--no-print-directory", "setup", f"PYTHON={python}"]
        done = subprocess.run(make, cwd=SCRIPTS.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertNotEqual(done.returncode, 0)
        return done.stdout.decode()

    def test_a_missing_python_is_said_plainly(self) -> None:
        said = self.make_setup("no-such-python")
        self.assertIn("Python (no-such-python) is missing: install 3.8 or newer", said)
        self.assertIn("apt install python3", said)

    def test_an_old_python_is_said_plainly(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            old = Path(folder) / "python"
            old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.7.3 || exit 1\n')
            old.chmod(0o755)
            said = self.make_setup(str(old))
        self.assertIn("Python 3.7.3 is too old: install Python 3.8 or newer", said)
        self.assertNotIn("Traceback", said)

    def test_every_script_is_one_for_the_oldest_python(self) -> None:
        for path in sorted(SCRIPTS.glob("*.py")):
            ast.parse(path.read_text(), path.name, feature_version=prerequisites.MIN_PYTHON)

    def test_an_empty_machine_is_told_what_to_install(self) -> None:
        with tempfile.TemporaryDirectory() as empty:
            with mock.patch.dict(os.environ, {"PATH": empty, "HOME": empty}):
                said = "\n".join(prerequisites.missing_build_tools())
        for tool in ("git", "make", "C++ compiler", "Rust", "apt install"):
            self.assertIn(tool, said)

    def test_old_tools_are_told_apart_from_good_ones(self) -> None:
        for rust, gcc, n_problems in (("1.95.0", "12.2.0", 0), ("1.96.0-nightly", "9.1", 0), ("1.94.1", "8.3.0", 2)):
            with tempfile.TemporaryDirectory() as folder:
                for name, says in (
                    ("rustc", f"rustc {rust} (abc 2026-01-01)"),
                    ("c++", f"c++ (Debian 1.0-1) {gcc}"),
                    ("cargo", ""),
                    ("git", ""),
                    ("make", ""),
                ):
                    path = Path(folder) / name
                    path.write_text(f"#!/bin/sh\necho '{says}'\n")
                    path.chmod(0o755)
                with mock.patch.dict(os.environ, {"PATH": folder}):
                    os.environ.pop("CXX", None)
                    self.assertEqual(len(prerequisites.missing_build_tools()), n_problems, (rust, gcc))

    def test_a_full_disk_is_named_with_what_is_needed(self) -> None:
        self.assertIsNone(prerequisites.disk_problem(SCRIPTS, 1))
        self.assertIn("needs 1000000.0 GB", prerequisites.disk_problem(SCRIPTS, 10**15) or "")


class ProgressLines(unittest.TestCase):
    def test_a_log_gets_a_line_per_tenth(self) -> None:
        out = io.StringIO()
        bar = progress.Progress("fetching", 1000, out)
        for n_done in range(0, 1001, 10):
            bar.show(n_done)
        bar.end(complete=True)
        self.assertEqual(len(out.getvalue().splitlines()), 12)

    def test_a_terminal_gets_one_line_that_changes(self) -> None:
        out = io.StringIO()
        out.isatty = lambda: True  # type: ignore[method-assign]
        bar = progress.Progress("fetching", 1000, out)
        bar.show(500)
        bar.end(complete=False)
        self.assertEqual(out.getvalue().count("\n"), 1)
        self.assertIn("50 %", out.getvalue())


if __name__ == "__main__":
    unittest.main()
