"""The two calls of grpc.health.v1, without its generated code."""

import enum
from collections.abc import Iterator
from typing import cast

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from mercato_client.channel import Deadline
from mercato_client.errors import DeadlineExceeded, MercatoError, NotReady, Unavailable
from mercato_client.status import to_exception, translated


class Health(enum.Enum):
    """What a server says of itself or of one model."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthCalls:
    """Check and Watch on one channel.

    HealthCheckRequest is `string service = 1` and its response `enum status = 1`: on the wire the same
    as StringValue and Int32Value, which spares callers a dependency that needs the newest protobuf.
    """

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        encode, decode = StringValue.SerializeToString, Int32Value.FromString
        self._check = channel.unary_unary("/grpc.health.v1.Health/Check", encode, decode)
        self._watch = channel.unary_stream("/grpc.health.v1.Health/Watch", encode, decode)
        self._address = address

    def check(self, model: str, deadline: Deadline) -> Health:
        """The health now. Raises NotFound for an unknown model."""
        with translated(self._address):
            return _health(self._check(StringValue(value=model), timeout=deadline.remaining()))

    def wait(self, model: str, deadline: Deadline) -> None:
        """Return once `model` is SERVING. Raises NotReady, or Unavailable when no server was there at all."""
        seen: Health | None = None
        try:
            while seen is not Health.SERVING:
                for seen in self._statuses(model, deadline):
                    if seen is Health.SERVING:
                        break
        except DeadlineExceeded as error:
            raise self._too_late(model, deadline, seen) from error

    def _statuses(self, model: str, deadline: Deadline) -> Iterator[Health]:
        """Every change until the stream ends; a broken stream ends too, so that the caller opens the next."""
        with translated(self._address):
            stream = self._watch(StringValue(value=model), timeout=deadline.remaining(), wait_for_ready=True)
        try:
            yield from map(_health, stream)
        except grpc.RpcError as error:
            raised = to_exception(error, self._address)
            if not isinstance(raised, Unavailable):
                raise raised from error
        finally:
            cast(grpc.Call, stream).cancel()

    def _too_late(self, model: str, deadline: Deadline, seen: Health | None) -> MercatoError:
        waited = f"after {deadline.seconds:g} s"
        if seen is None:
            return Unavailable(f"no server answers at {self._address} {waited}; start one with `mercato serve`")
        what = f"model {model!r}" if model else f"the server at {self._address}"
        return NotReady(f"{what} is {seen.name} {waited}; `mercato models` tells the reason")


def _health(answer: Int32Value) -> Health:
    return Health(answer.value) if answer.value in Health._value2member_map_ else Health.UNKNOWN
