"""What a handler process prepares for its handler, before and with each batch."""

import os
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from manifold_handler import main, serve


def rows(*ids):
    """A batch of requests with these ids, as the handler process takes it apart."""
    requests = [{"id": it, "headers": [], "inputs": [["body", "", 1]]} for it in ids]
    handler = serve.Handler(None, None, None, {"decodes_input": False, "max_answer_bytes": 1})
    return handler._rows(SimpleNamespace(head={"requests": requests}, body=bytearray(b"x" * len(ids))))


class Requests(unittest.TestCase):
    def test_a_request_keeps_the_id_that_it_came_with(self):
        self.assertEqual([it.request_id for it in rows("a", "b")], ["a", "b"])

    def test_requests_that_came_without_an_id_get_ids_that_differ(self):
        first, second = (it.request_id for it in rows("", ""))
        self.assertNotEqual(first, second)
        self.assertEqual(len(first), 36)


class Libraries(unittest.TestCase):
    def test_a_process_computes_on_one_thread_unless_the_operator_says_otherwise(self):
        with mock.patch.dict(os.environ, clear=True):
            main._prepare_libraries()
            self.assertEqual(os.environ, {"OMP_NUM_THREADS": "1", "MXNET_USE_OPERATOR_TUNING": "0"})
        with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "4"}, clear=True):
            main._prepare_libraries()
            self.assertEqual(os.environ["OMP_NUM_THREADS"], "4")


if __name__ == "__main__":
    unittest.main()
