"""The frames between a worker and a handler process, over one connected socket.

    u8   kind          what the frame is, see Kind
    u8   0, u16 0      reserved
    u32  call          which call it belongs to; 0: none
    u32  head length   bytes of JSON
    u32  body length   bytes that the head says the parts of

Numbers are big-endian. The worker reads the same layout in `worker/src/runtime/python/frame.rs`.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple, Sequence

VERSION = 1
_PREFIX = struct.Struct(">BBHIII")
# What a frame's head may take: a batch of requests with 16 KB of headers each.
MAX_HEAD_BYTES = 4 << 20
# One read takes so much of small frames; larger bodies are read straight into their place.
_READ_BYTES = 64 << 10


class Kind:
    HELLO = 1
    LOAD = 2
    LOADED = 3
    PREDICT = 4
    ANSWER = 5
    FAILED = 6
    CANCEL = 7
    # Nobody waits for the call any more, and it did not begin.
    SKIPPED = 8


class Frame(NamedTuple):
    kind: int
    call: int
    head: Any
    # The head's inputs, one after the other.
    body: bytearray


class BrokenStream(Exception):
    """The other side does not speak this protocol. Nothing that follows can be understood."""


class Stream:
    """Reads and writes frames. Not for several threads."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._read = bytearray()

    def next(self) -> Frame | None:
        """Waits for the next frame; `None` at the end of the stream."""
        while len(self._read) < _PREFIX.size:
            if not self._fill():
                return None
        kind, _, _, call, head_bytes, body_bytes = _PREFIX.unpack_from(self._read)
        if head_bytes > MAX_HEAD_BYTES:
            raise BrokenStream(f"a frame with a head of {head_bytes} bytes")
        del self._read[: _PREFIX.size]
        head, body = self._take(head_bytes), self._take(body_bytes)
        if head is None or body is None:
            return None
        return Frame(kind, call, json.loads(head) if head else None, body)

    def has_more(self) -> bool:
        """Whether a frame has begun to arrive. Does not wait."""
        if not self._read:
            self._fill(socket.MSG_DONTWAIT)
        return bool(self._read)

    def send(self, kind: int, call: int, head: Any, parts: Sequence[bytes | bytearray] = ()) -> None:
        encoded = json.dumps(head, separators=(",", ":")).encode()
        body_bytes = sum(len(part) for part in parts)
        prefix = _PREFIX.pack(kind, 0, 0, call, len(encoded), body_bytes)
        waiting = [memoryview(it) for it in (prefix + encoded, *parts) if it]
        while waiting:
            # No more at once than every kernel takes.
            sent = self._socket.sendmsg(waiting[:64])
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.pop(0))
            if sent:
                waiting[0] = waiting[0][sent:]

    def _take(self, n_bytes: int) -> bytearray | None:
        """Takes the next bytes, in an array of their own; `None` at the end of the stream."""
        if len(self._read) >= n_bytes:
            taken = self._read[:n_bytes]
            del self._read[:n_bytes]
            return taken
        taken = bytearray(n_bytes)
        filled = len(self._read)
        taken[:filled] = self._read
        self._read.clear()
        view = memoryview(taken)
        while filled < n_bytes:
            n_read = self._socket.recv_into(view[filled:])
            if n_read == 0:
                return None
            filled += n_read
        return taken

    def _fill(self, flags: int = 0) -> bool:
        try:
            read = self._socket.recv(_READ_BYTES, flags)
        except BlockingIOError:
            return False
        self._read += read
        return bool(read)
