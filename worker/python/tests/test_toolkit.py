"""A SageMaker script's functions: which there may be, how they are called, what clients are told."""

import contextlib
import importlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from manifold_handler.context import Context, Headers, RequestProcessor
from manifold_handler.toolkit import content, errors
from manifold_handler.toolkit.transformer import Transformer


class Toolkit(unittest.TestCase):
    def transformer(self, script):
        """A transformer over this script, and its context."""
        keeper = tempfile.TemporaryDirectory()
        self.addCleanup(keeper.cleanup)
        folder = keeper.name
        Path(folder, "inference.py").write_text(script, encoding="utf-8")
        sys.path.insert(0, folder)
        self.addCleanup(sys.path.remove, folder)
        # Each is the first in its process, but here.
        sys.modules.pop("inference", None)
        importlib.invalidate_caches()
        context = Context("m", folder, None, 1, None)
        transformer = Transformer()
        transformer.validate_and_initialize(folder, context)
        return transformer, context

    def answers(self, script, *requests):
        """What requests (body, headers) of one batch are answered: body, status and content type of each."""
        transformer, context = self.transformer(script)
        context.request_processor = [RequestProcessor(Headers(headers)) for _, headers in requests]
        with contextlib.redirect_stderr(io.StringIO()):
            bodies = transformer.transform([{"body": bytearray(body)} for body, _ in requests], context)
        return [
            (body, context.get_response_status(idx)[0], context.get_response_content_type(idx))
            for idx, body in enumerate(bodies)
        ]

    def test_functions_are_called_in_their_order_and_text_comes_as_text(self):
        script = """
def model_fn(model_dir): return "model"
def input_fn(data, content_type): return (type(data).__name__, content_type)
def predict_fn(data, model): return (data, model)
def output_fn(prediction, accept): return f"{prediction} as {accept}"
"""
        json = (b"[1]", [("Content-Type", "application/json"), ("Accept", "text/csv")])
        raw = (b"\xff", [("content-type", "image/png")])
        csv = (b"1", [("ContentType", "text/csv; charset=utf-8"), ("Accept", "*/*")])
        self.assertEqual(
            self.answers(script, json, raw, csv),
            [
                ("(('str', 'application/json'), 'model') as text/csv", 200, "text/csv"),
                ("(('bytearray', 'image/png'), 'model') as application/json", 200, "application/json"),
                ("(('str', 'text/csv; charset=utf-8'), 'model') as application/json", 200, "application/json"),
            ],
        )

    def test_transform_fn_excludes_the_others(self):
        script = "def model_fn(d): return 1\ndef transform_fn(model, data, content_type, accept): return 'x', 'a/b'\n"
        self.assertEqual(self.answers(script, (b"", [])), [("x", 200, "a/b")])
        with self.assertRaisesRegex(ValueError, "Cannot use transform_fn .* found input_fn"):
            self.transformer(script + "def input_fn(data, content_type): pass\n")

    def test_a_function_with_one_parameter_more_gets_the_context(self):
        script = """
def model_fn(model_dir, context): return context.model_name
def transform_fn(model, data, content_type, accept, context): return model + context.get_request_header(0, "X-A")
"""
        self.assertEqual(self.answers(script, (b"", [("x-a", "1")]))[0][0], "m1")
        with self.assertRaisesRegex(TypeError, "model_fn takes 3 arguments but 1 were given"):
            self.transformer("def model_fn(a, b, c): pass")

    def test_what_a_script_raises_is_told_with_its_status(self):
        script = """
from manifold_handler.toolkit.errors import GenericInferenceToolkitError
def model_fn(model_dir): return 1
def transform_fn(model, data, content_type, accept):
    if data == b"own": raise GenericInferenceToolkitError(422, "no\\r\\nsuch cat")
    if data == b"memory": raise MemoryError()
    raise ValueError("odd")
"""
        (own, status, _), (odd, odd_status, _) = self.answers(script, (b"own", []), (b"x", []))
        self.assertEqual((own.splitlines()[0], status), ("no", 422))
        self.assertEqual((odd.splitlines()[0], odd_status), ("odd", 500))
        self.assertIn("Traceback", odd)
        with self.assertRaises(MemoryError):
            self.answers(script, (b"memory", []))

    def test_a_script_without_model_fn_does_not_load(self):
        with self.assertRaisesRegex(NotImplementedError, "Please provide a model_fn implementation"):
            self.transformer("")

    def test_types_that_nobody_reads_or_writes_have_their_own_status(self):
        with self.assertRaises(errors.UnsupportedFormatError) as caught:
            content.decode(b"", "image/png")
        self.assertEqual(caught.exception.status_code, 415)
        with self.assertRaises(errors.UnsupportedFormatError) as caught:
            content.encode([1], "image/png")
        self.assertEqual(caught.exception.status_code, 406)
        self.assertEqual(content.encode([1, 2], "application/json"), "[1, 2]")


class HeaderNames(unittest.TestCase):
    def test_names_are_found_however_they_are_written_and_kept_as_they_came(self):
        headers = Headers([("Content-Type", "a"), ("X-B", "b")])
        self.assertEqual((headers["content-type"], headers.get("x-b"), "X-b" in headers), ("a", "b", True))
        headers["CONTENT-TYPE"] = "c"
        self.assertEqual(dict(headers), {"Content-Type": "c", "X-B": "b"})
        del headers["x-b"]
        self.assertNotIn("X-B", headers)
        self.assertEqual(headers.pop("x-b", None), None)

