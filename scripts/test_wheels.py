"""Installing from tiny wheels: what is kept, what is made again, what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import pins
import wheels
from sandbox import Sandbox

SCRIPTS = Path(__file__).resolve().parent


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
                import test_wheels, wheels, pins, pathlib
                wheels.install(pathlib.Path({str(self.folder)!r}), [pins.{self.hello!r}], test_wheels.copy_greeting, 1)
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
        with mock.patch.object(wheels, "write_whole", side_effect=KeyboardInterrupt):
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


if __name__ == "__main__":
    unittest.main()
