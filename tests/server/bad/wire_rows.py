"""What a row on the level of HTTP/2 is, the outcomes there are, and the rows about one message (1 to 14)."""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from grpc import StatusCode
from hyperframe.frame import DataFrame
from tests.server.bad.wire_peer import PREDICT, Header, Peer, Reply, call, message
from tests.server.calls import PRICING, pricing, request, tensor

GOOD = message(pricing([[4.0]]).SerializeToString())
MESSAGE_BYTES = 16 * 2**20
ERRONEOUS = b"\xff" * 5

# Why an answer comes from gRPC core, and so carries no details of ours.
FRAMING = "gRPC unpacks messages before a handler sees them"
HEADERS = "gRPC reads the header block before it looks for a handler"
ROUTE = "gRPC has no handler for the path"
HTTP2 = "the rule of HTTP/2 is broken, so the stream or the connection ends and no trailers can be trusted"
TRANSPORT = "gRPC's own deadline ends a call that has not reached a handler or cannot send"


@dataclass(frozen=True)
class Outcome:
    """What the caller gets: a gRPC status in trailers, or RST_STREAM, or GOAWAY with a close, or a close.

    `or_code` is for what depends on when gRPC reads the frames. Without `core`, the reason why gRPC answers itself,
    a failure has to carry our details. `says` stands in the text.
    """

    code: StatusCode | None = None
    says: str = ""
    core: str = ""
    reset: int | None = None
    goaway: int | None = None
    closed: bool = False
    or_code: StatusCode | None = None


ANSWERED = Outcome(StatusCode.OK)
MALFORMED = Outcome(StatusCode.INVALID_ARGUMENT, "the bytes are not a valid PredictRequest")
# gRPC takes a message with an unknown flag for an empty one, or for the end of the call.
UNFLAGGED = Outcome(StatusCode.INVALID_ARGUMENT, or_code=StatusCode.NOT_FOUND)
NO_MESSAGE = Outcome(StatusCode.INVALID_ARGUMENT, "the call ended without a whole message")
TOO_LARGE = Outcome(StatusCode.RESOURCE_EXHAUSTED, "larger than max", FRAMING)
UNKNOWN_MODEL = Outcome(StatusCode.NOT_FOUND, "there is no model ''")
EXPIRED = Outcome(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", TRANSPORT)
CLOSED = Outcome(closed=True, core=HTTP2)


def unframed(says: str) -> Outcome:
    return Outcome(StatusCode.INTERNAL, says, FRAMING)


@dataclass(frozen=True)
class Row:
    """Bad input by its number in the table: what is sent, over which connection, and what comes back.

    `settings` None connects without a preface; see Peer for `wide` and `polite`. `peak` bounds the bytes the server
    takes meanwhile. `answers` of a PredictStream are request ids with their codes, in any order.
    """

    number: int
    name: str
    send: Callable[[Peer], Reply]
    outcome: Outcome
    settings: Mapping[int, int] | None = field(default_factory=dict)
    wide: bool = True
    polite: bool = True
    answers: Sequence[tuple[str, StatusCode]] | None = None
    # A message of 16 MiB as gRPC's pieces, gRPC's whole and Python's bytes, in the memory of two threads.
    peak: int = 2 * 3 * MESSAGE_BYTES

    @property
    def label(self) -> str:
        return f"{self.number}-{self.name}"


def unary(body: bytes, *headers: Header, end: bool = True, path: bytes = PREDICT) -> Callable[[Peer], Reply]:
    """One call on stream 1: a header block, a body, and the half-close unless told."""
    return sending(call(*headers, path=path), body, end=end)


def sending(headers: list[Header], body: bytes = GOOD, *, end: bool = True) -> Callable[[Peer], Reply]:
    """The same with all headers given."""

    def send(peer: Peer) -> Reply:
        peer.open(1, headers)
        peer.data(1, body, end=end)
        return peer.reply(1)

    return send


def encoded(encoding: bytes, payload: bytes) -> Callable[[Peer], Reply]:
    return unary(message(payload, compressed=1), (b"grpc-encoding", encoding))


def _left_open(peer: Peer) -> Reply:
    """A message that is never finished, by a caller who goes away; a second caller is served meanwhile."""
    peer.open(1, call())
    peer.data(1, message(b"", length=1000))
    return good_call(peer, 3)


def _bytewise(peer: Peer) -> Reply:
    peer.open(1, call())
    peer.bytewise(1, message(b"\xff" * 2**20))
    return peer.reply(1)


def _empty_frames(peer: Peer) -> Reply:
    peer.open(1, call())
    peer.send(DataFrame(1, b"").serialize() * 100_000)
    return peer.drain()


def _ended_by_headers(peer: Peer) -> Reply:
    peer.open(1, call(), end=True)
    return peer.reply(1)


def good_call(peer: Peer, stream: int = 1) -> Reply:
    """A good call and its answer."""
    peer.open(stream, call())
    peer.data(stream, GOOD, end=True)
    return peer.reply(stream)


PAYLOAD = GOOD[5:]
SQUEEZED = gzip.compress(PAYLOAD)
SMALL_BOMB, BOMB = (gzip.compress(b"\0" * size) for size in (MESSAGE_BYTES - 1, 4 * MESSAGE_BYTES))
BOMB_IN_TENSOR = request(PRICING, tensor("x", shape=[1, 1], data=SMALL_BOMB)).SerializeToString()
FIELDS = Outcome(StatusCode.INVALID_ARGUMENT, "more than 65536 fields")
LENGTH = Outcome(StatusCode.INVALID_ARGUMENT, f"inputs.x: got {len(SMALL_BOMB)} bytes")

MESSAGES = [
    Row(1, "empty message", unary(message(b"")), UNKNOWN_MODEL),
    Row(2, "0xff five times", unary(message(ERRONEOUS)), MALFORMED),
    Row(3, "truncated field", unary(message(PAYLOAD[:-3])), MALFORMED),
    Row(4, "length beyond the end", unary(message(PAYLOAD, length=len(PAYLOAD) + 9)), NO_MESSAGE),
    Row(4, "length beyond the end, left open", _left_open, ANSWERED),
    Row(4, "three bytes of a prefix", unary(b"\0\0\0"), NO_MESSAGE),
    Row(5, "length 2^32-1", unary(message(PAYLOAD, length=2**32 - 1)), TOO_LARGE),
    Row(5, "length 2^32-1, left open", unary(message(b"", length=2**32 - 1), end=False), TOO_LARGE),
    Row(5, "length one above the limit", unary(message(b"", length=MESSAGE_BYTES + 1), end=False), TOO_LARGE),
    Row(6, "compressed, no encoding", unary(message(SQUEEZED, compressed=1)), unframed("no encoding configured")),
    Row(6, "compressed, encoding identity", encoded(b"identity", PAYLOAD), unframed("no encoding configured")),
    Row(6, "flag 2", unary(message(PAYLOAD, compressed=2)), UNFLAGGED),
    Row(7, "encoding br", encoded(b"br", SQUEEZED), unframed("Error parsing 'grpc-encoding'")),
    Row(7, "encoding br, nothing compressed", unary(GOOD, (b"grpc-encoding", b"br")), unframed("'grpc-encoding'")),
    Row(8, "gzip 1000 to 1 up to the limit", encoded(b"gzip", SMALL_BOMB), FIELDS),
    Row(8, "gzip 1000 to 1 above the limit", encoded(b"gzip", BOMB), TOO_LARGE),
    Row(8, "deflate above the limit", encoded(b"deflate", zlib.compress(b"\0" * 4 * MESSAGE_BYTES)), TOO_LARGE),
    Row(9, "gzip and garbage", encoded(b"gzip", SQUEEZED + b"garbage"), unframed("not all input consumed")),
    Row(9, "two gzip members", encoded(b"gzip", SQUEEZED * 2), unframed("not all input consumed")),
    Row(10, "gzip header and noise", encoded(b"gzip", b"\x1f\x8bnoise"), unframed("Decompression failed")),
    Row(10, "gzip truncated", encoded(b"gzip", SQUEEZED[:-4]), unframed("Decompression failed")),
    Row(10, "gzip with a wrong checksum", encoded(b"gzip", SQUEEZED[:-8] + bytes(8)), unframed("Decompression failed")),
    Row(11, "gzip that nobody announced", unary(message(SQUEEZED)), MALFORMED),
    Row(11, "gzip in gzip", encoded(b"gzip", gzip.compress(SQUEEZED)), MALFORMED),
    Row(11, "gzip in a tensor's bytes", unary(message(BOMB_IN_TENSOR)), LENGTH),
    Row(12, "two messages", unary(GOOD * 2), ANSWERED),
    Row(12, "a good message and a bad one", unary(GOOD + message(ERRONEOUS)), ANSWERED),
    Row(12, "a bad message and a good one", unary(message(ERRONEOUS) + GOOD), MALFORMED),
    Row(13, "no message", unary(b""), NO_MESSAGE),
    Row(13, "no message, ended by the headers", _ended_by_headers, NO_MESSAGE),
    *(
        Row(13, f"no message to {path.decode()}", unary(b"", path=path), NO_MESSAGE)
        for path in (
            b"/mercato.v1.CatalogService/ListModels",
            b"/mercato.v1.CatalogService/GetModel",
            b"/grpc.health.v1.Health/Check",
        )
    ),
    Row(14, "a MiB in frames of one byte", _bytewise, Outcome(StatusCode.INVALID_ARGUMENT, "more than 64 bits")),
    Row(14, "100 000 empty frames", _empty_frames, CLOSED),
]
