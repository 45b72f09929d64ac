"""What a handler returned or raised, as answers to the requests of its batch.

Statuses and texts are those of Multi Model Server 1.1.11: clients and tests compare them.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Sequence, Union

from .context import Context

_PREDICTION_FAILED = (503, "Prediction failed")
_OUT_OF_MEMORY = (507, "Out of resources")
_NO_LIST = (503, "Invalid model predict output")
_WRONG_LENGTH = (503, "number of batch response mismatched")
_NOT_SERIALIZABLE = (503, "Unsupported model output data type.")
# Packages whose exceptions carry a status, ours or the real ones.
_SERVERS = ("mms", "ts", "manifold_handler", "sagemaker_inference")


class Failure(NamedTuple):
    """Why a request has no answer."""

    status: int
    message: str


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes | bytearray


Outcome = Union[Answer, Failure]


def of_output(output: Any, context: Context, n_requests: int, max_bytes: int) -> list[Outcome]:
    """Encodes what a handler returned: a list with one item for each request."""
    if not isinstance(output, list):
        return [Failure(*_NO_LIST)] * n_requests
    if len(output) != n_requests:
        return [Failure(*_WRONG_LENGTH)] * n_requests
    try:
        bodies = [_encoded(item) for item in output]
    except (TypeError, ValueError, RecursionError):
        return [Failure(*_NOT_SERIALIZABLE)] * n_requests
    return [_answer(context, idx, body, max_bytes) for idx, body in enumerate(bodies)]


def of_error(error: BaseException) -> Failure:
    """Says what a client is told of an exception. Its traceback goes to the log alone."""
    if isinstance(error, MemoryError):
        return Failure(*_OUT_OF_MEMORY)
    named = [it for it in type(error).__mro__ if it.__module__.partition(".")[0] in _SERVERS]
    if any(it.__name__ == "PredictionException" for it in named):
        return Failure(_status(getattr(error, "error_code", 500)), str(getattr(error, "message", error)))
    return Failure(*_PREDICTION_FAILED)


def _encoded(item: Any) -> bytes | bytearray:
    if isinstance(item, (bytes, bytearray)):
        return item
    if isinstance(item, str):
        return item.encode()
    return json.dumps(item, indent=2).encode()


def _answer(context: Context, idx: int, body: bytes | bytearray, max_bytes: int) -> Outcome:
    if len(body) > max_bytes:
        return Failure(500, f"The model's answer is larger than the {max_bytes} bytes that the server takes.")
    # HTTP's own phrase goes with it: what a server may say there is fixed in advance.
    status, _ = context.get_response_status(idx)
    headers = [(str(name), str(value)) for name, value in context.get_response_headers(idx).items()]
    return Answer(_status(status), headers, body)


def _status(code: Any) -> int:
    """An answer needs a status that HTTP has, whatever the handler says."""
    return code if isinstance(code, int) and 200 <= code <= 599 else 500


def heads(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The outcomes without their bodies, as the worker reads them."""
    return [
        {"status": it.status, "failed": it.message}
        if isinstance(it, Failure)
        else {"status": it.status, "headers": it.headers, "len": len(it.body)}
        for it in outcomes
    ]
