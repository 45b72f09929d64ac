"""What counts as a difference between two servers, and which of them are intended. Needs neither of the servers."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from intended import INTENDED, Rule
from outcome import differences, fields
from servers import Answer


def answer(status=200, body=b"", *headers):
    return Answer(status, "OK", list(headers), body)


class Outcome(unittest.TestCase):
    def differences(self, theirs, ours, all_headers=False):
        return differences(fields(theirs, "/theirs", all_headers), fields(ours, "/ours", all_headers))

    def test_what_chance_decides_is_no_difference(self):
        ids = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
        self.assertEqual(self.differences(*(answer(200, f"{it} at 127.0.0.1:{len(it)}".encode()) for it in ids)), {})
        self.assertEqual(self.differences(answer(200, b"/theirs/m"), answer(200, b"/ours/m")), {})

    def test_servers_objects_are_compared_by_member_whatever_blanks_are_between(self):
        theirs = b'{\n  "code": 503,\n  "type": "A",\n  "message": "m"\n}\n'
        ours = b'{"code":503,"type":"B","message":"m"}'
        self.assertEqual(self.differences(answer(503, theirs), answer(503, ours)), {"body.type": ("A", "B")})

    def test_answers_of_handlers_are_compared_byte_for_byte(self):
        self.assertEqual(list(self.differences(answer(200, b'{"a": 1}'), answer(200, b'{"a":1}'))), ["body"])
        self.assertEqual(list(self.differences(answer(200, b"\xff" * 999), answer(200, b"\xff" * 998))), ["body"])

    def test_another_status_is_one_difference(self):
        error = b'{"code": 500, "type": "T", "message": "Worker died."}'
        found = self.differences(answer(500, error, ("Content-Type", "application/json")), answer(200, b"fine"))
        self.assertEqual(found, {"answer": ("500 Worker died.", "200 fine")})
        self.assertEqual(self.differences(answer(0), answer(200, b"fine")), {"answer": ("no answer", "200 fine")})

    def test_headers_of_handlers_are_compared_and_those_of_servers_where_it_is_wanted(self):
        theirs = answer(200, b"", ("X-Own", "a"), ("Pragma", "no-cache"), ("Date", "then"))
        ours = answer(200, b"", ("x-own", "b"), ("x-manifold-cache", "hit"))
        self.assertEqual(self.differences(theirs, ours), {"header x-own": ("a", "b")})
        everything = self.differences(theirs, ours, all_headers=True)
        self.assertEqual(set(everything), {"header x-own", "header pragma", "header x-manifold-cache"})


class Rules(unittest.TestCase):
    def test_a_rule_matches_what_it_names_alone(self):
        rule = Rule("exits", "*", "body.message", "Worker died.", "it was killed by signal *")
        values = ("Worker died.", "it was killed by signal 9")
        self.assertTrue(rule.matches("exits", "kill", "body.message", values))
        self.assertFalse(rule.matches("exits", "kill", "body.type", values))
        self.assertFalse(rule.matches("exits", "kill", "body.message", ("Worker died.", "something else")))

    def test_brackets_and_question_marks_are_text(self):
        self.assertTrue(Rule("a", "b", "c", "[x]?", "*").matches("a", "b", "c", ("[x]?", None)))
        self.assertFalse(Rule("a", "b", "c", "[x]?", "*").matches("a", "b", "c", ("xy", None)))

    def test_every_difference_has_a_name_of_its_own_and_a_reason(self):
        keys = [it.key for it in INTENDED]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertTrue(all(it.there and it.here and it.why and it.rules for it in INTENDED))


if __name__ == "__main__":
    unittest.main()
