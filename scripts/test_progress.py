"""Progress as a terminal and as a log show it."""

from __future__ import annotations

import io
import unittest

import progress


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
