"""The life of a handler process: load a model, answer batches one after the other, until the worker has gone."""

from __future__ import annotations

import json
import os
import time
import traceback
import uuid
from typing import Any, NamedTuple

from . import answers, entry
from .answers import Answer, Failure
from .context import Context, Headers, RequestProcessor
from .frames import VERSION, BrokenStream, Frame, Kind, Stream
from .metrics import MetricsStore

# What a traceback says most is at its end.
_MAX_TRACEBACK_CHARS = 16_384


class Row(NamedTuple):
    """One request of a batch."""

    request_id: str
    headers: Headers
    inputs: dict[str, Any]
    failure: Failure | None


class Handler:
    """A loaded model."""

    def __init__(self, stream: Stream, context: Context, handle: entry.Entry, load: dict[str, Any]) -> None:
        self._stream = stream
        self._context = context
        self._handle = handle
        self._decodes_input = bool(load["decodes_input"])
        self._max_answer_bytes = int(load["max_answer_bytes"])

    def serve(self) -> None:
        waiting: list[Frame] = []
        while True:
            if not waiting:
                frame = self._stream.next()
                if frame is None:
                    return
                waiting.append(frame)
            # Whatever has come meanwhile: a cancel may be for what waits here.
            while self._stream.has_more():
                frame = self._stream.next()
                if frame is None:
                    return
                waiting.append(frame)
            cancelled = {it.call for it in waiting if it.kind == Kind.CANCEL}
            waiting = [it for it in waiting if it.kind != Kind.CANCEL]
            if waiting:
                frame = waiting.pop(0)
                self._predict(frame, frame.call in cancelled)

    def _predict(self, frame: Frame, is_cancelled: bool) -> None:
        if frame.kind != Kind.PREDICT:
            raise BrokenStream(f"a frame of kind {frame.kind}")
        if is_cancelled or time.monotonic_ns() >= frame.head["deadline_ns"]:
            self._stream.send(Kind.SKIPPED, frame.call, {})
            return
        rows = self._rows(frame)
        self._context.metrics = MetricsStore({}, self._context.model_name)
        outcomes = self._outcomes(rows)
        bodies = [it.body for it in outcomes if isinstance(it, Answer)]
        head = {"items": answers.heads(outcomes), "metrics": self._context.metrics.encoded()}
        self._stream.send(Kind.ANSWER, frame.call, head, bodies)

    def _rows(self, frame: Frame) -> list[Row]:
        """Takes a batch's requests apart."""
        rows, offset, requests = [], 0, frame.head["requests"]
        n_inputs = sum(len(it["inputs"]) for it in requests)
        for request in requests:
            headers, inputs, failure = Headers(request["headers"]), {}, None
            for name, content_type, n_bytes in request["inputs"]:
                # The only input there is needs no copy.
                value = frame.body if n_inputs == 1 else frame.body[offset : offset + n_bytes]
                offset += n_bytes
                headers[name] = {"content-type": content_type}
                try:
                    inputs[name] = self._decoded(value, content_type)
                except (ValueError, RecursionError) as error:
                    failure = Failure(400, f"The body is not {content_type}: {error}")
            # Handlers name files by it: those of two requests are never the same.
            rows.append(Row(request["id"] or str(uuid.uuid4()), headers, inputs, failure))
        return rows

    def _outcomes(self, rows: list[Row]) -> list[Answer | Failure]:
        """Has the handler answer every request that can be understood."""
        taken = [row for row in rows if row.failure is None]
        answered = iter(self._answered(taken) if taken else ())
        return [row.failure or next(answered) for row in rows]

    def _answered(self, rows: list[Row]) -> list[Answer | Failure]:
        context = self._context
        context.request_ids = {idx: row.request_id for idx, row in enumerate(rows)}
        context.metrics = MetricsStore(context.request_ids, context.model_name)
        context.request_processor = [RequestProcessor(row.headers) for row in rows]
        started = time.monotonic()
        try:
            output = self._handle([row.inputs for row in rows], context)
            return answers.of_output(output, context, len(rows), self._max_answer_bytes)
        except Exception as error:
            traceback.print_exc()
            return [answers.of_error(error)] * len(rows)
        finally:
            elapsed_ms = round((time.monotonic() - started) * 1000, 2)
            context.metrics.add_time("PredictionTime", elapsed_ms)

    def _decoded(self, value: bytearray, content_type: str) -> Any:
        if not self._decodes_input:
            return value
        if content_type == "application/json":
            return json.loads(value)
        return value.decode() if content_type.startswith("text/") else value


def run(stream: Stream) -> None:
    """Speaks with the worker until it has gone."""
    stream.send(Kind.HELLO, 0, {"version": VERSION, "pid": os.getpid()})
    frame = stream.next()
    if frame is None:
        return
    if frame.kind != Kind.LOAD:
        raise BrokenStream(f"a frame of kind {frame.kind}")
    handler = _load(stream, frame)
    if handler is not None:
        handler.serve()


def _load(stream: Stream, frame: Frame) -> Handler | None:
    """Loads the model, and says what came of it."""
    load = frame.head
    try:
        handler = Handler(stream, *_loaded(load), load)
    except BaseException as error:
        stream.send(Kind.FAILED, frame.call, _load_failure(error))
        return None
    stream.send(Kind.LOADED, frame.call, {})
    return handler


def _loaded(load: dict[str, Any]) -> tuple[Context, entry.Entry]:
    model_dir = load["model_dir"]
    os.chdir(model_dir)
    name = entry.parse(load["handler"])
    entry.prepare_path(model_dir, name)
    context = Context(load["model_name"], model_dir, load["manifest"], load["batch_size"], load["gpu_id"])
    context.metrics = MetricsStore(None, context.model_name)
    return context, entry.find(name, context)


def _load_failure(error: BaseException) -> dict[str, Any]:
    text = traceback.format_exc()[-_MAX_TRACEBACK_CHARS:]
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, (ImportError, SyntaxError)):
        kind = "import"
    else:
        kind = "handler"
    said = str(error) if isinstance(error, entry.LoadFailed) else f"{type(error).__name__}: {error}"
    return {"kind": kind, "message": said, "traceback": text}
