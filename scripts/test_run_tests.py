"""The counts of the test runners are read as the runners print them."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import debian
import run_tests
import venvs
import wheels
from run_tests import Count, count_cargo, count_nextest, count_unittest, run


class Counting(unittest.TestCase):
    def test_nextest(self) -> None:
        for line, expected in (
            ("     Summary [   0.005s] 3 tests run: 3 passed, 0 skipped", Count(3, 0, 0)),
            ("     Summary [   1.005s] 1 test run: 1 passed (1 slow), 2 skipped", Count(1, 0, 2)),
            ("     Summary [ 65.1s] 9 tests run: 5 passed (1 slow, 1 leaky), 2 failed, 1 exec failed, 1 timed out, 4 skipped", Count(5, 4, 4)),
            ("     Summary [ 65.1s] 3/9 tests run: 1 passed, 2 failed, 4 skipped", Count(1, 2, 4)),
            ("error: could not compile `worker`", Count()),
        ):
            self.assertEqual(count_nextest(f"noise\n{line}\nmore noise\n"), expected, line)

    def test_cargo_test_adds_its_programs_up(self) -> None:
        line = "test result: {}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
        output = line.format("ok", 3, 0, 1) + "noise\n" + line.format("FAILED", 2, 1, 0)
        self.assertEqual(count_cargo(output), Count(5, 1, 1))

    def test_unittest(self) -> None:
        for ended, expected in (
            ("OK", Count(6, 0, 0)),
            ("OK (skipped=2)", Count(4, 0, 2)),
            ("FAILED (failures=1, errors=2, skipped=1)", Count(2, 3, 1)),
        ):
            self.assertEqual(count_unittest(f"...\nRan 6 tests in 0.1s\n\n{ended}\n"), expected)


class Skipping(unittest.TestCase):
    def test_what_skipped_itself_has_not_passed(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
            file = Path(folder) / "skipped"
            with mock.patch.object(run_tests, "SKIPPED", file):
                self.assertEqual(run_tests.count_skipped(Count(5, 1, 0)), Count(5, 1, 0))
                file.write_text("etcd_heals: etcd is not here\nother: etcd is not here\n")
                self.assertEqual(run_tests.count_skipped(Count(5, 1, 0)), Count(3, 1, 2))
        self.assertIn("!! SKIPPED: etcd_heals: etcd is not here", said.getvalue())


class Running(unittest.TestCase):
    def run_quietly(self, program: str, count=count_unittest) -> Count:
        with contextlib.redirect_stdout(io.StringIO()):
            return run([sys.executable, "-c", program], count)

    def test_a_runner_that_dies_without_a_count_is_a_failure(self) -> None:
        self.assertEqual(self.run_quietly("raise SystemExit(3)"), Count(failed=1))

    def test_failures_are_not_counted_twice(self) -> None:
        program = "print('Ran 3 tests in 1s\\nFAILED (failures=2)'); raise SystemExit(1)"
        self.assertEqual(self.run_quietly(program), Count(1, 2, 0))

    def python_tests_after(self, error: Exception) -> Count:
        with contextlib.redirect_stdout(io.StringIO()):
            with mock.patch.object(venvs, "provide", side_effect=error):
                return run_tests.python_tests()

    def test_a_client_that_could_not_be_fetched_is_a_failure(self) -> None:
        self.assertEqual(self.python_tests_after(wheels.SetupError("no network")), Count(failed=1))

    def test_a_machine_that_cannot_run_the_clients_is_a_skip(self) -> None:
        self.assertEqual(self.python_tests_after(venvs.CannotRunHere("3.8")), Count(skipped=1))

    def provide_debian_after(self, error: Exception) -> Count:
        with contextlib.redirect_stdout(io.StringIO()):
            with mock.patch.object(debian, "provide", side_effect=error):
                return run_tests.provide_debian()

    def test_a_program_that_could_not_be_fetched_is_a_failure(self) -> None:
        self.assertEqual(self.provide_debian_after(wheels.SetupError("no network")), Count(failed=1))

    def test_a_machine_without_debians_packages_goes_without(self) -> None:
        self.assertEqual(self.provide_debian_after(debian.CannotRunHere("Fedora")), Count())


if __name__ == "__main__":
    unittest.main()
