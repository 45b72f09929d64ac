"""Finds what serves a model: `[path/]module[.py][:function]`, as Multi Model Server and TorchServe look for it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from types import ModuleType
from typing import Any, Callable, NamedTuple

from .context import Context

Entry = Callable[[Any, Context], Any]
# Handlers that TorchServe brings are named without a file.
_BUILT_IN = "ts.torch_handler"


class LoadFailed(Exception):
    """The handler cannot serve the model; what it says goes to whoever wants it loaded."""


class Name(NamedTuple):
    folder: str
    module: str
    function: str


def parse(handler: str) -> Name:
    """Takes a handler's name apart; the function is `handle` unless it says otherwise."""
    path, _, function = handler.partition(":")
    folder, _, module = path.rpartition("/")
    if module.endswith(".py"):
        module = module[: -len(".py")]
    if not module:
        raise LoadFailed(f"the handler {handler!r} names no module")
    return Name(folder, module, function or "handle")


def prepare_path(model_dir: str, name: Name) -> None:
    """Lets the model's own modules be found first: beside the handler, in `code/`, in the model's folder."""
    folders = [os.path.abspath(os.path.join(model_dir, name.folder))] if name.folder else []
    folders += [os.path.join(model_dir, "code"), model_dir]
    kept = list(dict.fromkeys(it for it in folders if os.path.isdir(it)))
    sys.path[:0] = [it for it in kept if it not in sys.path]


def find(name: Name, context: Context) -> Entry:
    """Imports the handler, has it load its model, and returns what answers a batch."""
    module = _import(name.module)
    entry = getattr(module, name.function, None)
    if entry is not None and not inspect.isclass(entry):
        # So that it loads what it needs. What it answers to nothing is nobody's.
        entry(None, context)
        return entry
    service = _service_class(module, name, entry)()
    if hasattr(service, "initialize"):
        service.initialize(context)
    if not callable(getattr(service, "handle", None)):
        raise LoadFailed(f"the class {type(service).__name__} in {name.module!r} has no method handle")
    return service.handle


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module or "." in module:
            raise
    try:
        return importlib.import_module(f"{_BUILT_IN}.{module}")
    except ModuleNotFoundError as error:
        if error.name in (f"{_BUILT_IN}.{module}", _BUILT_IN, "ts"):
            raise LoadFailed(f"there is no handler module {module!r} in the model's folder or on the import path") from None
        raise


def _service_class(module: ModuleType, name: Name, named: type | None) -> type:
    if named is not None:
        return named
    defined = [it for it in vars(module).values() if inspect.isclass(it) and it.__module__ == module.__name__]
    if len(defined) != 1:
        classes = ", ".join(it.__name__ for it in defined) or "none"
        raise LoadFailed(
            f"{name.module!r} has neither a function {name.function!r} nor exactly one class; its classes: {classes}"
        )
    return defined[0]
