"""Virtual environments from tiny wheels and a stand-in for the index: what is kept, what is made again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import unittest
from unittest import mock

import lock_requirements
import venvs
import wheels
from sandbox import Sandbox

NAME = "clients"


class Environments(Sandbox):
    """One environment, with one package."""

    def setUp(self) -> None:
        super().setUp()
        self.requirements = self.root / "tests" / "python" / "requirements" / f"{NAME}.txt"
        self.requirements.parent.mkdir(parents=True)
        self.require(self.wheel("hello", {"hello.py": b"greeting = 'good day'\n"}).requirement())
        for patch in (mock.patch.dict(venvs.N_BYTES, {NAME: 1}, clear=True), mock.patch.object(venvs, "NEEDED_BYTES", 1)):
            patch.start()
            self.addCleanup(patch.stop)

    def require(self, requirement: str) -> None:
        self.requirements.write_text(f"# For hello.\n{requirement}\n")

    def greeting(self) -> str:
        command = [str(venvs.python(self.root, NAME)), "-c", "import hello; print(hello.greeting)"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def forbid_making(self) -> None:
        patch = mock.patch.object(venvs, "_make", side_effect=AssertionError("made again"))
        patch.start()
        self.addCleanup(patch.stop)

    def test_the_package_is_there_and_a_second_time_nothing_is_done(self) -> None:
        venvs.provide(self.root)
        self.assertEqual(self.greeting(), "good day")
        self.forbid_making()
        venvs.provide(self.root)

    def test_nothing_else_stays(self) -> None:
        (self.root / ".python" / "of-an-earlier-version").mkdir(parents=True)
        venvs.provide(self.root)
        self.assertEqual(sorted(it.name for it in (self.root / ".python").iterdir()), [".lock", NAME])

    def test_an_interrupted_one_is_made_anew(self) -> None:
        with mock.patch.object(venvs, "_pip_install", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                venvs.provide(self.root)
        self.assertFalse(venvs.is_ready(self.root, NAME))
        venvs.provide(self.root)
        self.assertEqual(self.greeting(), "good day")

    def test_other_requirements_make_it_anew(self) -> None:
        venvs.provide(self.root)
        self.require(self.wheel("hello", {"hello.py": b"greeting = 'good night'\n"}).requirement())
        self.assertFalse(venvs.is_ready(self.root, NAME))
        venvs.provide(self.root)
        self.assertEqual(self.greeting(), "good night")

    def test_one_that_was_moved_is_made_anew(self) -> None:
        venvs.provide(self.root)
        moved = self.root / "moved"
        moved.mkdir()
        for folder in (".python", "tests"):
            shutil.move(str(self.root / folder), str(moved / folder))
        self.assertFalse(venvs.is_ready(moved, NAME))

    def test_a_wrong_digest_is_refused(self) -> None:
        self.require("hello==1.0 --hash=sha256:" + "0" * 64)
        with self.assertRaisesRegex(wheels.SetupError, "pip could not fill"):
            venvs.provide(self.root)
        self.assertFalse(venvs.is_ready(self.root, NAME))

    def test_an_old_python_and_another_machine_cannot_run_it(self) -> None:
        for patch in (
            mock.patch.object(sys, "version_info", (3, 9, 18)),
            mock.patch("platform.machine", return_value="aarch64"),
        ):
            with patch, self.assertRaises(venvs.CannotRunHere):
                venvs.provide(self.root)


class Locking(unittest.TestCase):
    def test_every_environment_has_its_requirements(self) -> None:
        self.assertEqual(set(lock_requirements.WANTED), set(venvs.N_BYTES))
        for name, wanted in lock_requirements.WANTED.items():
            text = (lock_requirements.REQUIREMENTS / f"{name}.txt").read_text()
            self.assertIn(f"# For {' '.join(wanted)}.", text)
            lines = [it for it in text.splitlines() if "==" in it and not it.startswith("#")]
            self.assertTrue(lines)
            self.assertTrue(all(it.endswith("\\") for it in lines), "each has digests")

    def test_a_line_says_for_which_pythons_it_is(self) -> None:
        versions = ["3.10", "3.11", "3.12"]
        for used, expected in (
            ({"3.10", "3.11", "3.12"}, ""),
            ({"3.10"}, " ; python_version == '3.10'"),
            ({"3.11", "3.12"}, " ; python_version >= '3.11'"),
            ({"3.10", "3.12"}, " ; python_version == '3.10' or python_version >= '3.12'"),
        ):
            self.assertEqual(lock_requirements.marker(used, versions), expected)


if __name__ == "__main__":
    unittest.main()
