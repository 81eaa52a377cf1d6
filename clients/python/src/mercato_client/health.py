"""The two calls of grpc.health.v1, without its generated code."""

import enum
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from mercato_client.channel import Deadline
from mercato_client.errors import DeadlineExceeded, MercatoError, NotReady, Unavailable

Read = Callable[[Any], Any]
Pause = Callable[[float], Any]

# Seconds between one broken Watch and the next; the pause doubles until a Watch has answered.
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0


class Health(enum.Enum):
    """What a server says of itself or of one model."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthCalls:
    """Plans of Check and Watch on one channel.

    `read` gives the next message of a stream, None at its end; `pause` does nothing for some seconds.

    HealthCheckRequest is `string service = 1` and its response `enum status = 1`: on the wire the same
    as StringValue and Int32Value, which spares callers a dependency that needs the newest protobuf.
    """

    def __init__(self, channel: Any, address: str, read: Read, pause: Pause) -> None:
        encode, decode = StringValue.SerializeToString, Int32Value.FromString
        self._check = channel.unary_unary("/grpc.health.v1.Health/Check", encode, decode)
        self._watch = channel.unary_stream("/grpc.health.v1.Health/Watch", encode, decode)
        self._address = address
        self._read = read
        self._pause = pause

    def check(self, model: str, deadline: Deadline) -> Generator[Any, Any, Health]:
        """The health now. Raises NotFound for an unknown model."""
        return _health((yield partial(self._check, StringValue(value=model), timeout=deadline.remaining())))

    def wait(self, model: str, deadline: Deadline) -> Generator[Any, Any, None]:
        """Return once `model` is SERVING. Raises NotReady, or Unavailable when no server was there at all."""
        seen: Health | None = None
        pause = FIRST_PAUSE
        try:
            while True:
                stream = self._watch(StringValue(value=model), timeout=deadline.remaining(), wait_for_ready=True)
                with _cancelled(stream), suppress(Unavailable):  # a broken stream is followed by the next
                    while (answer := (yield partial(self._read, stream))) is not None:
                        seen, pause = _health(answer), FIRST_PAUSE
                        if seen is Health.SERVING:
                            return
                yield partial(self._pause, min(pause, deadline.remaining()))
                pause = min(2 * pause, LAST_PAUSE)
        except DeadlineExceeded as error:
            raise self._too_late(model, deadline, seen) from error

    def _too_late(self, model: str, deadline: Deadline, seen: Health | None) -> MercatoError:
        waited = f"after {deadline.seconds:g} s"
        if seen is None:
            return Unavailable(f"no server answers at {self._address} {waited}; start one with `mercato serve`")
        what = f"model {model!r}" if model else f"the server at {self._address}"
        return NotReady(f"{what} is {seen.name} {waited}; `mercato models` tells the reason")


@contextmanager
def _cancelled(stream: Any) -> Iterator[None]:
    try:
        yield
    finally:
        stream.cancel()


def _health(answer: Int32Value) -> Health:
    return Health(answer.value) if answer.value in Health._value2member_map_ else Health.UNKNOWN
