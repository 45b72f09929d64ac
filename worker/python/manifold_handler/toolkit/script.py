"""A user's inference script: which functions it has, and how they are called."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from typing import Any, Callable

from ..context import Context
from . import content

_PROGRAM = "SAGEMAKER_PROGRAM"
_DEFAULT_PROGRAM = "inference.py"
_EXCLUDED_BY_TRANSFORM = ("input_fn", "predict_fn", "output_fn")
_DOCS = "https://docs.aws.amazon.com/sagemaker/latest/dg/adapt-inference-container.html"


class DefaultInferenceHandler:
    """What serves where a script has no function of its own."""

    def default_model_fn(self, model_dir: str, context: Context | None = None) -> Any:
        raise NotImplementedError(f"Please provide a model_fn implementation. See {_DOCS}")

    def default_input_fn(self, input_data: Any, content_type: str | None, context: Context | None = None) -> Any:
        return content.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Context | None = None) -> Any:
        raise NotImplementedError(f"Please provide a predict_fn implementation. See {_DOCS}")

    def default_output_fn(self, prediction: Any, accept: str, context: Context | None = None) -> tuple[Any, str]:
        for content_type in content.accepted(accept):
            if content_type in content.SUPPORTED_OUTPUTS:
                return content.encode(prediction, content_type), content_type
        return content.encode(prediction, accept), accept

    def default_pre_model_fn(self, model_dir: str, context: Context | None = None) -> None:
        """Nothing, unless a script has some."""

    def default_model_warmup_fn(self, model_dir: str, model: Any, context: Context | None = None) -> None:
        """Nothing, unless a script has some."""


class Script:
    """A script's functions, or the defaults."""

    def __init__(self, defaults: DefaultInferenceHandler, context: Context) -> None:
        self._context = context
        module = _module()
        transform_fn = getattr(module, "transform_fn", None)
        if transform_fn is not None:
            present = [it for it in _EXCLUDED_BY_TRANSFORM if hasattr(module, it)]
            if present:
                raise ValueError(
                    "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, and/or "
                    f"output_fn implementation; found {', '.join(present)}"
                )
        self.transform_fn: Callable | None = transform_fn

        def function(name: str) -> Callable:
            return getattr(module, name, None) or getattr(defaults, f"default_{name}")

        self.model_fn = function("model_fn")
        self.input_fn = function("input_fn")
        self.predict_fn = function("predict_fn")
        self.output_fn = function("output_fn")
        self.pre_model_fn = function("pre_model_fn")
        self.model_warmup_fn = function("model_warmup_fn")

    def load(self, model_dir: str) -> Any:
        """Loads the model."""
        self.call(self.pre_model_fn, model_dir)
        model = self.call(self.model_fn, model_dir)
        self.call(self.model_warmup_fn, model_dir, model)
        return model

    def transform(self, model: Any, data: Any, content_type: str | None, accept: str) -> Any:
        """Answers one request."""
        if self.transform_fn is not None:
            return self.call(self.transform_fn, model, data, content_type, accept)
        data = self.call(self.input_fn, data, content_type)
        prediction = self.call(self.predict_fn, data, model)
        return self.call(self.output_fn, prediction, accept)

    def call(self, function: Callable, *args: Any) -> Any:
        """Calls a function that may take the context as one more parameter."""
        n_wanted = len(inspect.signature(function).parameters)
        if n_wanted == len(args):
            return function(*args)
        if n_wanted == len(args) + 1:
            return function(*args, self._context)
        name = getattr(function, "__name__", function)
        raise TypeError(f"{name} takes {n_wanted} arguments but {len(args)} were given.")


def _module() -> Any:
    program = os.environ.get(_PROGRAM) or _DEFAULT_PROGRAM
    name = program[: -len(".py")] if program.endswith(".py") else program
    return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None
