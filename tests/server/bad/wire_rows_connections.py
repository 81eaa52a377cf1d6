"""Rows about the connection and its frames: stalls, floods, windows, other protocols (15 to 22)."""

import ssl
from collections.abc import Callable

from grpc import StatusCode
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from tests.server.bad.wire_peer import PREFACE, Header, Peer, Reply, call
from tests.server.bad.wire_rows import (
    ANSWERED,
    CLOSED,
    EXPIRED,
    GOOD,
    HEADERS,
    HTTP2,
    Outcome,
    Row,
    good_call,
    unary,
)

SOON: Header = (b"grpc-timeout", b"200m")
CALM = 11  # ENHANCE_YOUR_CALM
STREAMS = range(1, 2000, 2)
HEADERS_TOO_LARGE = Outcome(StatusCode.RESOURCE_EXHAUSTED, core=HEADERS)


def _good_after(*parts: Frame | bytes) -> Callable[[Peer], Reply]:
    """Something bad on stream 0, then a good call on the same connection."""

    def send(peer: Peer) -> Reply:
        peer.send(*parts)
        return good_call(peer)

    return send


def _closed_after(*parts: Frame | bytes) -> Callable[[Peer], Reply]:
    def send(peer: Peer) -> Reply:
        peer.send(*parts)
        return peer.drain()

    return send


def _preface_by_bytes(peer: Peer) -> Reply:
    for byte in PREFACE + SettingsFrame(0).serialize():
        peer.send(bytes([byte]))
    return good_call(peer)


def _headers_that_never_end(peer: Peer) -> Reply:
    """No PING can be answered inside a header block, so the server is asked by a second connection."""
    peer.send(HeadersFrame(1, peer.block(call(SOON))))
    return peer.elsewhere(good_call)


def _half_a_preface(peer: Peer) -> Reply:
    peer.send(PREFACE[:10])
    return peer.elsewhere(good_call)


def _opened_and_reset(peer: Peer) -> Reply:
    for stream in STREAMS:
        peer.open(stream, call())
        peer.reset(stream)
    return good_call(peer, STREAMS.stop + 1)


def _asked_and_reset(peer: Peer) -> Reply:
    for stream in STREAMS:
        peer.open(stream, call())
        peer.send(DataFrame(stream, GOOD, flags=["END_STREAM"]), RstStreamFrame(stream, 8))
    return good_call(peer, STREAMS.stop + 1)


def _more_streams_than_allowed(peer: Peer) -> Reply:
    """1024 may be open at once."""
    last = 2 * 1200 + 1
    for stream in range(1, last + 1, 2):
        peer.open(stream, call())
    return peer.reply(last)


def _unread_window(peer: Peer) -> Reply:
    """The answer's headers pass, its message finds no window; the deadline ends the call."""
    peer.open(1, call(SOON))
    peer.data(1, GOOD, end=True)
    return peer.reply(1)


def _unread_socket(peer: Peer) -> Reply:
    """Answers to 1000 calls are written to a socket that nobody reads, which then breaks."""
    for stream in STREAMS:
        peer.open(stream, call())
        peer.send(DataFrame(stream, GOOD, flags=["END_STREAM"]))
    peer.abort()
    return peer.elsewhere(good_call)


def _continued(*fragments: bytes) -> Callable[[Peer], Reply]:
    """One header block in as many frames as there are fragments."""

    def send(peer: Peer) -> Reply:
        peer.send(HeadersFrame(1, peer.block(call())), *(ContinuationFrame(1, part) for part in fragments))
        peer.send(ContinuationFrame(1, b"", flags=["END_HEADERS"]), DataFrame(1, GOOD, flags=["END_STREAM"]))
        return peer.reply(1)

    return send


def _block(block: bytes) -> Callable[[Peer], Reply]:
    """Bytes of HPACK behind the headers of a call."""

    def send(peer: Peer) -> Reply:
        peer.send(HeadersFrame(1, peer.block(call()) + block, flags=["END_HEADERS"]))
        peer.send(DataFrame(1, GOOD, flags=["END_STREAM"]))
        return peer.reply(1)

    return send


def _settings(code: int, value: int) -> Callable[[Peer], Reply]:
    return _closed_after(SettingsFrame(0, settings={code: value}))


def _hello() -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


def _refused_block(says: str) -> Outcome:
    return Outcome(StatusCode.INTERNAL, says, HEADERS)


LITERAL = b"\x00\x01k\x01v"  # one header field, k: v, that no table keeps
KEPT = b"\x40\x01k" + b"\x7f\xa1\x1e" + b"X" * 4000  # one of 4000 bytes that the dynamic table keeps
UPDATES = WindowUpdateFrame(0, window_increment=2**31 - 1)
HTTP1 = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)

STALLS = [
    Row(15, "half a message until the deadline", unary(GOOD[:9], SOON, end=False), EXPIRED),
    Row(15, "headers only until the deadline", unary(b"", SOON, end=False), EXPIRED),
    Row(15, "preface by single bytes", _preface_by_bytes, ANSWERED, settings=None),
    Row(15, "half a preface", _half_a_preface, ANSWERED, settings=None),
    Row(15, "headers that never end", _headers_that_never_end, ANSWERED),
    Row(15, "no SETTINGS after the preface", _good_after(PREFACE), CLOSED, settings=None),
]

FLOODS = [
    Row(16, "1000 streams opened and reset", _opened_and_reset, ANSWERED),
    Row(16, "1000 requests sent and reset", _asked_and_reset, ANSWERED),
    Row(16, "1200 streams at once", _more_streams_than_allowed, Outcome(reset=7, core=HTTP2)),
    Row(17, "three pings", _closed_after(*[PingFrame(0, b"12345678")] * 3), Outcome(goaway=CALM, core=HTTP2)),
    Row(17, "10 000 pings", _closed_after(PingFrame(0, b"12345678").serialize() * 10_000), CLOSED),
    Row(18, "20 000 SETTINGS", _good_after(SettingsFrame(0, settings={3: 9}).serialize() * 20_000), ANSWERED),
    Row(18, "SETTINGS of 5 bytes", _closed_after(b"\0\0\5\4\0\0\0\0\0\0\0\0\0\0"), CLOSED),
    Row(18, "frame size 1", _settings(5, 1), CLOSED),
    Row(18, "window 2^31", _settings(4, 2**31), CLOSED),
    Row(18, "push 2", _settings(2, 2), CLOSED),
    Row(18, "header table 2^32-1", _good_after(SettingsFrame(0, settings={1: 2**32 - 1})), ANSWERED),
    Row(18, "window above 2^31-1", _good_after(UPDATES, UPDATES), ANSWERED),
    Row(18, "window update of 0", _closed_after(b"\0\0\4\x08\0\0\0\0\0\0\0\0\0"), CLOSED),
    Row(18, "no window for the answer", _unread_window, EXPIRED, settings={4: 0}, wide=False),
    Row(18, "1000 answers unread, then a TCP reset", _unread_socket, ANSWERED),
    Row(19, "10 000 empty CONTINUATION frames", _continued(*[b""] * 10_000), Outcome(reset=2, core=HTTP2)),
    Row(19, "1.6 MB of headers in 100 frames", _continued(*[LITERAL * 3200] * 100), HEADERS_TOO_LARGE),
    Row(19, "one field of 4 KB, 8000 times by its index", _block(KEPT + b"\xbe" * 8000), HEADERS_TOO_LARGE),
    Row(19, "HPACK index 0", _block(b"\x80"), _refused_block("Illegal hpack op code")),
    Row(19, "HPACK number of 20 bytes", _block(b"\x7f" + b"\xff" * 20), _refused_block("integer overflow")),
]

OTHERS = [
    Row(21, "HTTP/1.1 GET", _closed_after(HTTP1), CLOSED, settings=None),
    Row(21, "HTTP/1.1 with an upgrade to h2c", _closed_after(UPGRADE), CLOSED, settings=None),
    Row(21, "zeros", _closed_after(bytes(100)), CLOSED, settings=None),
    Row(21, "preface with one byte wrong", _closed_after(PREFACE[:-1] + b"X"), CLOSED, settings=None),
    Row(21, "frame of 16 MiB", _closed_after(b"\xff\xff\xff\0\0\0\0\0\1"), CLOSED),
    Row(22, "TLS hello on the plain port", _closed_after(_hello()), CLOSED, settings=None),
]

ROWS = [*STALLS, *FLOODS, *OTHERS]
