"""Shows how far something is: one line that changes on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO


class Progress:
    def __init__(self, what: str, n_total: int, out: TextIO | None = None) -> None:
        self._what = what
        self._n_total = max(n_total, 1)
        self._out = out or sys.stdout
        self._last = -1

    def show(self, n_done: int) -> None:
        percent = min(100 * n_done // self._n_total, 100)
        if self._out.isatty():
            self._write(f"\r{self._text(n_done, percent)}\033[K")
        elif percent // 10 > self._last:
            self._last = percent // 10
            self._write(self._text(n_done, percent) + "\n")

    def end(self, complete: bool) -> None:
        text = f"{self._what}: {'done' if complete else 'failed'}"
        self._write(f"\r{text}\033[K\n" if self._out.isatty() else text + "\n")

    def _text(self, n_done: int, percent: int) -> str:
        return f"{self._what}: {n_done / 1e6:.0f} of {self._n_total / 1e6:.0f} MB, {percent} %"

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
