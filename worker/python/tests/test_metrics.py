"""The metrics that handlers see: Multi Model Server's names and order, whatever the worker is told."""

import contextlib
import io
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from manifold_handler.metrics import MAX_METRICS, Dimension, MetricsStore


class Metrics(unittest.TestCase):
    def setUp(self):
        self.metrics = MetricsStore({0: "a", 1: "b"}, "m")

    def test_handlers_see_long_units_and_the_worker_short_ones(self):
        self.metrics.add_time("Took", 1.5, unit="s")
        self.metrics.add_size("Size", 3)
        self.metrics.add_percent("Share", 12)
        self.metrics.add_metric("Own", 7, unit="apples")
        self.metrics.add_metric("Bare", 8)
        seen = [it.unit for it in self.metrics.store]
        self.assertEqual(seen, ["Seconds", "Megabytes", "Percent", "apples", "unit"])
        told = [it["unit"] for it in self.metrics.encoded()]
        self.assertEqual(told, ["s", "MB", "percent", "apples", ""])

    def test_a_line_has_the_handlers_dimensions_then_the_models(self):
        self.metrics.add_counter("Seen", 2, idx=1, dimensions=[Dimension("Kind", "x")])
        line = str(self.metrics.store[0])
        self.assertTrue(line.startswith("Seen.Count:2|#Kind:x,ModelName:m,Level:Model|#hostname:"), line)
        self.assertTrue(line.endswith(",b"), line)

    def test_counters_add_up_unless_they_differ_in_a_dimension(self):
        for kind in ("x", "y", "x"):
            self.metrics.add_counter("Seen", 1, dimensions=[Dimension("Kind", kind)])
        self.assertEqual([it.value for it in self.metrics.store], [2, 1])

    def test_errors_are_kept_and_told_in_the_log_alone(self):
        self.metrics.add_error("Failed", "no weights")
        self.assertEqual([it.value for it in self.metrics.store], ["no weights"])
        with contextlib.redirect_stdout(io.StringIO()) as log:
            self.assertEqual(self.metrics.encoded(), [])
        self.assertEqual(log.getvalue(), "Failed: no weights\n")

    def test_what_is_added_in_a_loop_ends_somewhere(self):
        for idx in range(MAX_METRICS + 10):
            self.metrics.add_metric(f"m{idx}", idx)
        self.assertEqual(len(self.metrics.store), MAX_METRICS)


if __name__ == "__main__":
    unittest.main()
