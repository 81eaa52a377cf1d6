"""Just enough of gRPC over HTTP/2 for a load generator: unary calls on one connection, a few microseconds for each.

A gRPC client spends about as much on a small call as the server does. On shared cores a load of such clients measures
itself.
"""

import asyncio
import base64
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x8
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PRIORITY_OR_PADDED = 0x28
REFUSED, CANCEL = 0x7, 0x8
FIRST_WINDOW = 65_535
WIDE = 2**31 - 1
CREDIT = 2**24
"""Bytes of answers after which the server is allowed as many more."""

_HEAD = struct.Struct(">IBI")
_SETTING = struct.Struct(">HI")
_TABLE_SIZE, _PUSH, _STREAM_WINDOW = 0x1, 0x2, 0x4


@dataclass(slots=True, eq=False)
class Reply:
    """What came back on one stream; `ended` is in seconds of `time.perf_counter`, 0 until then.

    `block` holds the headers that came last, encoded: they are read when the load is over. `is_late` is one whose
    caller gave it up.
    """

    stream: int = 0
    data: bytes = b""
    block: bytes = b""
    reset: int | None = None
    ended: float = 0.0
    is_late: bool = False

    @property
    def message(self) -> bytes:
        """The answer behind gRPC's five bytes."""
        return self.data[5:]


class Method:
    """One method at one address: the part of a call's frames that is the same in all of its calls."""

    def __init__(self, address: str, path: str) -> None:
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": address,
            "te": "trailers",
            "content-type": "application/grpc",
        }
        # Never indexed, so that the block means the same wherever it is sent.
        self._block = Encoder().encode([NeverIndexedHeaderTuple(*header) for header in headers.items()], huffman=False)

    def frames(self, stream: int, payload: bytes, timeout: float) -> tuple[bytes, bytes]:
        """The headers of a call that has `timeout` seconds, and its data."""
        value = b"%du" % max(1, round(timeout * 1e6))
        block = b"%b\x00\x0cgrpc-timeout%c%b" % (self._block, len(value), value)
        message = b"\x00%b%b" % (len(payload).to_bytes(4, "big"), payload)
        return _frame(HEADERS, END_HEADERS, stream, block), _frame(DATA, END_STREAM, stream, message)


class Connection(asyncio.Protocol):
    """One connection; the calls of a turn of the loop leave together, at `flush`."""

    def __init__(self) -> None:
        self._replies: dict[int, Reply] = {}
        self._held: deque[tuple[Reply, Method, bytes, float]] = deque()
        self._out = [PREFACE, _settings(), _credit(WIDE - FIRST_WINDOW)]
        self._buffer = bytearray()
        self._next = 1
        self._window = FIRST_WINDOW
        self._received = 0
        self._now = 0.0

    @classmethod
    async def open(cls, address: str) -> "Connection":
        """Connect to `host:port`."""
        host, _, port = address.rpartition(":")
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast(asyncio.Transport, transport)
        self.flush()

    def call(self, method: Method, payload: bytes, deadline: float) -> Reply:
        """Begin a call whose deadline is in seconds of `time.perf_counter`; it waits here while there is no window."""
        reply = Reply()
        if self._transport.is_closing():
            reply.ended = time.perf_counter()
            return reply
        self._held.append((reply, method, payload, deadline))
        self._send()
        return reply

    def give_up(self, reply: Reply) -> None:
        """Take a call back whose caller waits no longer."""
        if self._replies.pop(reply.stream, None):
            self._out.append(_frame(RST_STREAM, 0, reply.stream, CANCEL.to_bytes(4, "big")))
        reply.ended, reply.is_late = time.perf_counter(), True

    def flush(self) -> None:
        """Hand everything to the system."""
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is open, without a status."""
        self._now = time.perf_counter()
        for reply, *_ in self._held:
            reply.ended = self._now
        for stream in list(self._replies):
            self._end(stream)

    def data_received(self, data: bytes) -> None:
        """Take whole frames; what is left waits for more."""
        self._now = time.perf_counter()
        self._buffer += data
        start = 0
        while (body := start + _HEAD.size) <= len(self._buffer):
            head, flags, stream = _HEAD.unpack_from(self._buffer, start)
            end = body + (head >> 8)
            if end > len(self._buffer):
                break
            self._take(head & 0xFF, flags, stream, bytes(self._buffer[body:end]))
            start = end
        del self._buffer[:start]
        self.flush()

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind in (DATA, HEADERS, RST_STREAM):
            self._take_reply(kind, flags, stream, body)
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._out.append(_frame(kind, ACK, 0, b"" if kind == SETTINGS else body))
        elif kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(body, "big")
            self._send()

    def _take_reply(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        reply = self._replies.get(stream)
        if kind == DATA:
            self._give_credit(len(body))
        if reply is None:  # given up
            return
        if kind == RST_STREAM:
            reply.reset = int.from_bytes(body, "big")
        elif kind == DATA:
            reply.data += body
        else:
            reply.block = body
        if kind == RST_STREAM or flags & END_STREAM:
            self._end(stream)

    def _end(self, stream: int) -> None:
        self._replies.pop(stream).ended = self._now

    def _give_credit(self, size: int) -> None:
        self._received += size
        if self._received >= CREDIT:
            self._out.append(_credit(self._received))
            self._received = 0

    def _send(self) -> None:
        """Send what the window allows, in order."""
        while self._held:
            reply, method, payload, deadline = self._held[0]
            headers, data = method.frames(self._next, payload, deadline - time.perf_counter())
            size = len(data) - _HEAD.size
            if size > self._window and not reply.ended:
                return
            self._held.popleft()
            if not reply.ended:
                self._window -= size
                self._replies[self._next] = reply
                reply.stream = self._next
                self._next += 2
                self._out += (headers, data)


def trailers(block: bytes) -> dict[str, str]:
    """Names and values of a reply's last headers."""
    return {_text(name): _text(value) for name, value in Decoder().decode(block)}


def binary(value: str) -> bytes:
    """The value of a header whose name ends in -bin."""
    return base64.b64decode(value + "=" * (-len(value) % 4))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body) << 8 | kind, flags, stream) + body


def _settings() -> bytes:
    """Headers without a table, no push, wide windows."""
    values = {_TABLE_SIZE: 0, _PUSH: 0, _STREAM_WINDOW: WIDE}
    return _frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in values.items()))


def _credit(size: int) -> bytes:
    return _frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))
