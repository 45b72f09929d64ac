"""Answers batches with a script's functions."""

from __future__ import annotations

import os
import re
import traceback
from typing import Any, Mapping

from ..context import Context
from . import content, errors
from .script import DefaultInferenceHandler, Script

_DEFAULT_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"
_CONTENT_TYPE = re.compile(r"^[Cc]ontent-?[Tt]ype")
_LINE_END = re.compile(r"[\r\n]+")


class Transformer:
    """A script and its model. Every request of a batch is looked at by itself."""

    def __init__(self, default_inference_handler: DefaultInferenceHandler | None = None) -> None:
        self._defaults = default_inference_handler or DefaultInferenceHandler()
        self._script: Script | None = None
        self._model: Any = None

    def validate_and_initialize(self, model_dir: str, context: Context) -> None:
        """Finds the script's functions and loads the model, once."""
        if self._script is None:
            script = Script(self._defaults, context)
            self._model = script.load(model_dir)
            self._script = script

    def transform(self, data: list[Mapping[str, Any]], context: Context) -> list[Any]:
        """Answers a batch: a body for each request."""
        if self._script is None:
            self.validate_and_initialize(context.system_properties["model_dir"], context)
        return [self._answer(row, idx, context) for idx, row in enumerate(data)]

    def _answer(self, row: Mapping[str, Any], idx: int, context: Context) -> Any:
        try:
            body, content_type = self._transformed(row, context.get_all_request_header(idx))
        except MemoryError:
            raise
        except Exception as error:
            traceback.print_exc()
            return _refusal(error, idx, context)
        context.set_response_content_type(idx, content_type)
        return body

    def _transformed(self, row: Mapping[str, Any], headers: Mapping[str, Any]) -> tuple[Any, str]:
        data = row.get("body")
        content_type = _content_type(headers)
        accept = headers.get("Accept") or headers.get("accept")
        if not accept or accept == content.ANY:
            accept = os.environ.get(_DEFAULT_ACCEPT) or content.JSON
        if content.media_type(content_type) in content.UTF8_TYPES and isinstance(data, (bytes, bytearray)):
            data = data.decode()
        result = self._script.transform(self._model, data, content_type, accept)
        return result if isinstance(result, tuple) else (result, accept)


def _content_type(headers: Mapping[str, Any]) -> str | None:
    found = [value for name, value in headers.items() if _CONTENT_TYPE.match(name)]
    return found[0] if found else None


def _refusal(error: Exception, idx: int, context: Context) -> str:
    """What the toolkit tells a client: what was said, and where."""
    trace = traceback.format_exc()
    own = errors.with_status(error)
    status = own.status_code if own is not None else 500
    message = getattr(own, "message", None) or str(error)
    phrase = getattr(own, "phrase", None) or message
    context.set_response_status(code=status, phrase=_LINE_END.sub(" ", phrase), idx=idx)
    return f"{message}\n{trace}"
