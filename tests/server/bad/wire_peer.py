"""One HTTP/2 connection of which a test writes every byte: any header block, any framing, any frame."""

import base64
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote

from grpc import StatusCode
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Longer than any answer takes on a busy machine; a row that gets none fails here and does not hang.
PATIENCE = 10.0
# A receive window no test exhausts, so that no connection needs to give credit back.
PREDICT = b"/mercato.v1.PredictionService/Predict"

WIDE = 2**31 - 1
FRAME = 16_384

Header = tuple[bytes, bytes]


@dataclass
class Reply:
    """What came back on one stream until it, or the connection, ended."""

    headers: list[Header] = field(default_factory=list)
    data: bytes = b""
    reset: int | None = None
    goaway: GoAwayFrame | None = None
    closed: bool = False

    def header(self, name: str) -> str | None:
        """The last value of a header or trailer, None when it did not come."""
        values = [value for key, value in self.headers if key == name.encode()]
        return values[-1].decode("latin-1") if values else None

    @property
    def code(self) -> StatusCode | None:
        """The gRPC status."""
        number = self.header("grpc-status")
        return None if number is None else next(code for code in StatusCode if code.value[0] == int(number))

    @property
    def text(self) -> str:
        """The status' text."""
        return unquote(self.header("grpc-message") or "")

    @property
    def details(self) -> bytes:
        """The encoded google.rpc.Status of the trailers."""
        encoded = self.header("grpc-status-details-bin") or ""
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4))

    @property
    def messages(self) -> list[bytes]:
        """The payloads of the gRPC messages that came."""
        found, rest = [], self.data
        while rest:
            end = 5 + int.from_bytes(rest[1:5], "big")
            found.append(rest[5:end])
            rest = rest[end:]
        return found


class Closed(Exception):
    """The server has closed the connection."""


class Peer:
    """A connection to the server at `address`.

    Without `settings` nothing has been sent yet, not even the preface. A polite peer has acknowledged the server's
    settings, before which gRPC applies none of its limits; a wide one can receive all there is.
    """

    def __init__(
        self, address: str, settings: Mapping[int, int] | None = None, *, wide: bool = True, polite: bool = True
    ) -> None:
        host, port = address.rsplit(":", 1)
        self._address = address
        self._until = 0.0
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._encoder, self._decoder = Encoder(), Decoder()
        self._received = b""
        self._replies: dict[int, Reply] = {}
        self._ended: set[int] = set()
        self._credit: dict[int, int] = {0: 65_535}
        self._first_credit = 65_535
        self.goaway: GoAwayFrame | None = None
        self._pongs = 0
        if settings is not None:
            self.send(PREFACE, SettingsFrame(0, settings=dict(settings)))
            if wide:
                self.send(WindowUpdateFrame(0, window_increment=WIDE - 65_535))
            if polite:
                self.ping()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close our side; what the server still sends is lost."""
        self._socket.close()

    def abort(self) -> None:
        """Close with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, *parts: Frame | bytes) -> None:
        """Bytes and frames as they are. What a closed connection does not take is lost; `reply` tells of the close."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts))

    def open(self, stream: int, headers: Iterable[Header], *, end: bool = False) -> None:
        """A HEADERS frame; nothing is checked and the names keep their case."""
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        self._credit.setdefault(stream, self._first_credit)
        self.send(HeadersFrame(stream, self.block(headers), flags=flags))

    def block(self, headers: Iterable[Header]) -> bytes:
        """An encoded header block. It enters the table of the connection, so it has to be sent."""
        return bytes(self._encoder.encode(headers, huffman=False))

    def data(self, stream: int, payload: bytes, *, end: bool = False) -> None:
        """DATA frames as large as allowed, as fast as the server's windows allow."""
        pieces = [payload[at : at + FRAME] for at in range(0, len(payload), FRAME)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self._spend(stream, len(piece))
            self.send(DataFrame(stream, piece, flags=["END_STREAM"] if end and number == len(pieces) else []))

    def bytewise(self, stream: int, payload: bytes) -> None:
        """DATA frames of one byte each, and the half-close."""
        head = b"\0\0\1\0\0" + stream.to_bytes(4, "big")
        for at in range(0, len(payload), FRAME):
            piece = payload[at : at + FRAME]
            self._spend(stream, len(piece))
            self.send(b"".join(head + piece[i : i + 1] for i in range(len(piece))))
        self.data(stream, b"", end=True)

    def reset(self, stream: int, code: int = 8) -> None:
        """RST_STREAM; 8 is CANCEL."""
        self.send(RstStreamFrame(stream, code))

    def reply(self, stream: int) -> Reply:
        """Everything the server says on a stream, until that or the connection has ended."""
        self._begin()
        while stream not in self._ended and self._advance():
            pass
        reply = self._replies.get(stream, Reply())
        reply.goaway, reply.closed = self.goaway, stream not in self._ended
        return reply

    def begun(self, stream: int) -> None:
        """Wait for the first frame of a stream."""
        self._begin()
        while stream not in self._replies and self._advance():
            pass

    def ping(self) -> None:
        """Wait until the server has answered a PING: it has read all that was sent before."""
        self._begin()
        pongs = self._pongs
        self.send(PingFrame(0, b"mercato "))
        while self._pongs == pongs and self._advance():
            pass

    def drain(self) -> Reply:
        """Read until the server closes."""
        return self.reply(-1)

    def elsewhere(self, send: "Callable[[Peer], Reply]") -> Reply:
        """The same by a second connection, while this one stays as it is."""
        with Peer(self._address, {}) as other:
            return send(other)

    def _begin(self) -> None:
        self._until = time.monotonic() + PATIENCE

    def _advance(self) -> bool:
        """Take one frame; false when the connection has ended."""
        try:
            self._take(self._frame())
        except Closed:
            return False
        return True

    def _frame(self) -> Frame:
        frame, length = Frame.parse_frame_header(memoryview(self._exactly(9)))
        frame.parse_body(memoryview(self._exactly(length)))
        return frame

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._received += self._some()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def _some(self) -> bytes:
        self._socket.settimeout(max(0.001, self._until - time.monotonic()))
        try:
            chunk = self._socket.recv(262_144)
        except ConnectionError as error:
            raise Closed from error
        if not chunk:
            raise Closed
        return chunk

    def _take(self, frame: Any) -> None:
        reply = self._replies.setdefault(frame.stream_id, Reply()) if frame.stream_id else Reply()
        match frame:
            case HeadersFrame():
                reply.headers += self._decoder.decode(frame.data, raw=True)
            case DataFrame():
                reply.data += frame.data
            case RstStreamFrame():
                reply.reset = frame.error_code
            case GoAwayFrame():
                self.goaway = frame
            case PingFrame():
                self._on_ping(frame)
            case SettingsFrame():
                self._on_settings(frame)
            case WindowUpdateFrame():
                self._credit[frame.stream_id] = self._credit.get(frame.stream_id, 65_535) + frame.window_increment
        if "END_STREAM" in frame.flags or isinstance(frame, RstStreamFrame):
            self._ended.add(frame.stream_id)

    def _on_ping(self, frame: PingFrame) -> None:
        if "ACK" in frame.flags:
            self._pongs += 1
        else:
            self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))

    def _on_settings(self, frame: SettingsFrame) -> None:
        if "ACK" in frame.flags:
            return
        window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._first_credit)
        for stream in self._credit.keys() - {0}:
            self._credit[stream] += window - self._first_credit
        self._first_credit = window
        self.send(SettingsFrame(0, flags=["ACK"]))

    def _spend(self, stream: int, size: int) -> None:
        self._begin()
        while min(self._credit[0], self._credit[stream]) < size and stream not in self._ended and self._advance():
            pass
        self._credit[0] -= size
        self._credit[stream] -= size


def message(payload: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A gRPC message: flag, length, payload; `length` may lie."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


def call(*more: Header, path: bytes = PREDICT) -> list[Header]:
    """Headers of a gRPC call and `more`."""
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", path)]
    return [*pseudo, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
