"""An answer as fields that can be compared: what may differ by chance is taken out."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict

from servers import Answer

# What servers say of every answer, whatever the handler does; compared where a case asks for it.
SERVER_HEADERS = {"cache-control", "connection", "expires", "keep-alive", "pragma", "server", "vary", "x-request-id"}
# What HTTP itself needs, or what a clock says.
IGNORED_HEADERS = {"content-length", "content-type", "date", "transfer-encoding"}
OWN_PREFIX = "x-manifold-"
# Longer values are told apart by their hash.
MAX_SHOWN_CHARS = 200
CHANCE = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?"), "<time>"),
    (re.compile(r"Traceback \(most recent call last\):.*", re.S), "<traceback>"),
    (re.compile(r'"memoryUsage": ?\d+'), '"memoryUsage": "<bytes>"'),
    # Of a process; one is a port and a hash, the other a number.
    (re.compile(r'"id": ?"\d[0-9a-f-]*"'), '"id": "<process>"'),
]
Fields = Dict[str, Any]


def fields(answer: Answer, folder: str, all_headers: bool = False) -> Fields:
    """Returns the fields of an answer; `folder` is where the server's models lie, which differs."""
    found: Fields = {"status": answer.status, "content-type": answer.header("content-type")}
    if answer.status == 0:
        return {"status": 0}
    found["reason"] = answer.reason
    hidden = IGNORED_HEADERS if all_headers else IGNORED_HEADERS | SERVER_HEADERS
    for name, value in answer.headers:
        # Manifold's own are additions, and are compared where all are.
        if name.lower() not in hidden and (all_headers or not name.lower().startswith(OWN_PREFIX)):
            found[f"header {name.lower()}"] = plain(value, folder)
    return {**found, **_body_fields(answer.body, folder)}


def _body_fields(body: bytes, folder: str) -> Fields:
    """A server's own objects are compared by member, whatever blanks are between; a handler's body byte for byte."""
    try:
        text = plain(body.decode(), folder)
    except UnicodeDecodeError:
        return {"body": shown(body)}
    own = _object(text)
    is_servers = own is not None and (
        set(own) == {"code", "type", "message"} or set(own) & {"status", "models", "modelName"}
    )
    if own is not None and is_servers:
        return {f"body.{name}": value for name, value in own.items()}
    return {"body": text if len(text) <= MAX_SHOWN_CHARS * 20 else shown(body)}


def _object(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def plain(text: str, folder: str) -> str:
    """Takes out of a text what differs between two runs."""
    text = text.replace(folder, "<models>")
    for pattern, name in CHANCE:
        text = pattern.sub(name, text)
    return text


def shown(body: bytes) -> str:
    if len(body) <= MAX_SHOWN_CHARS // 2:
        return repr(body)
    return f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()[:16]}"


def differences(theirs: Fields, ours: Fields) -> dict[str, tuple[Any, Any]]:
    """Returns the fields that differ; a field that one of them lacks is None there.

    Another status brings another body and another type with it: they are one difference, called `answer`.
    """
    if theirs.get("status") != ours.get("status"):
        return {"answer": (_summary(theirs), _summary(ours))}
    names = dict.fromkeys([*theirs, *ours])
    return {it: (theirs.get(it), ours.get(it)) for it in names if theirs.get(it) != ours.get(it)}


def _summary(found: Fields) -> str:
    if found.get("status") == 0:
        return "no answer"
    said = next((found[it] for it in ("body.message", "body.status", "body") if it in found), "")
    return f"{found['status']} {said}"[:MAX_SHOWN_CHARS].strip()
