"""What a machine lacks is said plainly, before anything is fetched."""

from __future__ import annotations

import ast
import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import prerequisites

SCRIPTS = Path(__file__).resolve().parent


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


if __name__ == "__main__":
    unittest.main()
