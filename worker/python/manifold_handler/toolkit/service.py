"""The handler of archives with `code/inference.py`."""

from __future__ import annotations

from typing import Any

from ..context import Context
from .transformer import Transformer


class DefaultHandlerService:
    """A Transformer with the interface of a handler class."""

    def __init__(self, transformer: Transformer | None = None) -> None:
        self._service = transformer or Transformer()

    def handle(self, data: Any, context: Context) -> Any:
        return self._service.transform(data, context)

    def initialize(self, context: Context) -> None:
        self._service.validate_and_initialize(context.system_properties["model_dir"], context)
