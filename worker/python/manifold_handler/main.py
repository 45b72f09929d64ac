"""Starts a handler process. Its standard input is the socket to the worker."""

from __future__ import annotations

import logging
import os
import socket
import sys

from . import serve
from .frames import Stream
from .parent import die_with

# Modules that handlers import and that come with servers whose place the worker takes.
_COMPATIBLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compatible")


def main() -> None:
    die_with(os.getppid())
    connected = _take_socket()
    _tell_line_by_line()
    _prepare_libraries()
    _prepare_imports()
    serve.run(Stream(connected))


def _take_socket() -> socket.socket:
    """Takes the socket from standard input, which a handler then finds empty."""
    connected = socket.socket(fileno=os.dup(0))
    connected.setblocking(True)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return connected


def _tell_line_by_line() -> None:
    """Output goes to the worker's log, line by line; no character of a handler's may end it."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    # As in Multi Model Server: what handlers log is seen.
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)


def _prepare_libraries() -> None:
    """As in Multi Model Server: many models share the cores, so each process takes one, unless it is told otherwise."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # MXNet else measures every operator when it is imported.
    os.environ.setdefault("MXNET_USE_OPERATOR_TUNING", "0")


def _prepare_imports() -> None:
    """Leaves only what a handler expects on the path; the real servers' modules go before ours."""
    sys.path[:] = [it for it in sys.path if it]
    sys.argv[:] = [""]
    sys.path.append(_COMPATIBLE)
