"""The façade: one object to call models with, over one channel."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from mercato_client import forks
from mercato_client.calls import outcome, read
from mercato_client.flights import Flights
from mercato_client.health import Health
from mercato_client.plans import Plan, Plans, Walk
from mercato_client.prediction import Prediction
from mercato_client.schema import Catalog, Model, Signature
from mercato_client.stream import Stream
from mercato_client.surface import Calls


class Client(Calls[Prediction, list[Model], Catalog, Model, Signature, Health, None]):
    """A connection to a Mercato server; use it as a context manager, or call `close`.

    `address` is "host:port", any gRPC target, or a list of "host:port" among which calls take turns.
    `timeout` is the seconds a call may take when it names none itself, `max_message_bytes` the largest
    message either way, which is to match the server's. With `tls` the connection is encrypted.
    A wrong argument raises InvalidInput. The connection opens on first use. One client serves all threads
    of a process; once closed it raises InvalidInput, and so it does in a process forked after it was made.
    """

    def _start(self) -> None:
        self._channel = self._endpoint.open(grpc)
        self._plans = Plans(self._channel, self._endpoint, self.timeout, read, self._pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed = True
        if not forks.lost():
            self._channel.close()

    def stream(self) -> Stream:
        """Many requests through one call: `with client.stream() as stream`, then `stream.predict(...)`."""
        self._check()
        return Stream(Flights(self._plans, self._channel, self._endpoint, self._check))

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)
        self._check()

    def _run(self, plan: Callable[..., Plan[Any]], *arguments: Any) -> Any:
        self._check()
        walk = Walk(plan(self._plans, *arguments))
        walk.resume()
        while walk.step is not None:
            walk.resume(outcome(walk.step, self.address))
        return walk.result
