"""Rows about PredictStream: what breaks one message, what breaks the stream, and callers who do not read."""

from collections.abc import Callable

from grpc import StatusCode
from hyperframe.frame import RstStreamFrame
from tests.server.bad.wire_peer import Header, Peer, Reply, call, message
from tests.server.bad.wire_rows import ANSWERED, ERRONEOUS, TOO_LARGE, Row, good_call, unframed
from tests.server.calls import pricing

from mercato.v1 import prediction_pb2

PATH = b"/mercato.v1.PredictionService/PredictStream"
OK, INVALID = StatusCode.OK, StatusCode.INVALID_ARGUMENT
MANY = 300


def _request(number: int) -> bytes:
    predict = pricing([[4.0]], request_id=f"r{number}")
    return prediction_pb2.PredictStreamRequest(predict=predict).SerializeToString()


def _stream(*bodies: bytes, headers: tuple[Header, ...] = ()) -> Callable[[Peer], Reply]:
    def send(peer: Peer) -> Reply:
        peer.open(1, call(*headers, path=PATH))
        for body in bodies[:-1]:
            peer.data(1, body)
        peer.data(1, bodies[-1], end=True)
        return peer.reply(1)

    return send


def _reset_in_the_middle(peer: Peer) -> Reply:
    peer.open(1, call(path=PATH))
    peer.data(1, MANY_REQUESTS + message(b"", length=100))
    peer.send(RstStreamFrame(1, 8))
    return good_call(peer, 3)


def _closed_in_the_middle(peer: Peer) -> Reply:
    peer.open(1, call(path=PATH))
    peer.data(1, MANY_REQUESTS)
    peer.abort()
    return peer.elsewhere(good_call)


def _never_read(peer: Peer) -> Reply:
    """No window for answers: once 256 are in flight the server reads no further, and others are served."""
    peer.open(1, call(path=PATH))
    peer.data(1, MANY_REQUESTS)
    peer.ping()
    reply = peer.elsewhere(good_call)
    peer.reset(1)
    return reply


FIRST, SECOND = message(_request(1)), message(_request(2))
MANY_REQUESTS = b"".join(message(_request(number)) for number in range(MANY))
ONE_GOOD = (("r1", OK),)

ROWS = [
    Row(1, "stream: empty message", _stream(message(b""), SECOND), ANSWERED, answers=(("", INVALID), ("r2", OK))),
    Row(2, "stream: noise", _stream(message(ERRONEOUS), SECOND), ANSWERED, answers=(("", INVALID), ("r2", OK))),
    Row(3, "stream: truncated", _stream(message(_request(1)[:-2]), SECOND), ANSWERED,
        answers=(("", INVALID), ("r2", OK))),
    Row(4, "stream: length beyond the end", _stream(FIRST, message(b"x", length=1000)), ANSWERED, answers=ONE_GOOD),
    # gRPC takes a message with an unknown flag for an empty one, or for the end of the stream.
    Row(4, "stream: noise for a prefix", _stream(FIRST, b"\x07\xff\xff\xff\xffnoise"), ANSWERED),
    Row(5, "stream: length 2^32-1", _stream(FIRST, message(b"x", length=2**32 - 1)), TOO_LARGE),
    Row(6, "stream: compressed, no encoding", _stream(FIRST, message(b"x", compressed=1)),
        unframed("no encoding configured")),
    Row(10, "stream: invalid gzip", _stream(message(b"x", compressed=1), headers=((b"grpc-encoding", b"gzip"),)),
        unframed("Decompression failed")),
    Row(13, "stream: no message", _stream(b""), ANSWERED, answers=()),
    Row(16, "stream: reset in the middle", _reset_in_the_middle, ANSWERED),
    Row(16, "stream: connection cut in the middle", _closed_in_the_middle, ANSWERED),
    Row(18, "stream: 300 requests, then the answers", _stream(MANY_REQUESTS), ANSWERED,
        answers=[(f"r{number}", OK) for number in range(MANY)]),
    Row(18, "stream: 300 requests, nothing read", _never_read, ANSWERED, settings={4: 0}, wide=False),
]  # fmt: skip
