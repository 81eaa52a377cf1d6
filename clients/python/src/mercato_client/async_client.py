"""The façade for asyncio: the calls of `Client`, awaited."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc.aio

from mercato_client import forks
from mercato_client.async_calls import outcome, read
from mercato_client.async_stream import AsyncStream
from mercato_client.errors import InvalidInput
from mercato_client.flights import Flights
from mercato_client.health import Health
from mercato_client.plans import Plan, Plans, Walk
from mercato_client.prediction import Prediction
from mercato_client.schema import Catalog, Model, Signature
from mercato_client.surface import Calls

Result = TypeVar("Result")
Awaited = Coroutine[Any, Any, Result]


class AsyncClient(
    Calls[
        Awaited[Prediction],
        Awaited[list[Model]],
        Awaited[Catalog],
        Awaited[Model],
        Awaited[Signature],
        Awaited[Health],
        Awaited[None],
    ]
):
    """`Client` for asyncio: the same arguments and calls, each of them awaited; use it with `async with`.

    It belongs to the event loop in which it is first used, and raises InvalidInput in another one.
    """

    _channel: Any = None
    _plans: Any = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed = True
        if self._channel is not None and not forks.lost():
            await self._channel.close()

    def stream(self) -> AsyncStream:
        """Many requests through one call: `async with client.stream() as stream`, then `await stream.predict(...)`."""
        self._check()
        self._connect()
        return AsyncStream(Flights(self._plans, self._channel, self._endpoint, self._check))

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._check()

    async def _run(self, plan: Callable[..., Plan[Any]], *arguments: Any) -> Any:
        self._check()
        self._connect()
        walk = Walk(plan(self._plans, *arguments))
        walk.resume()
        while walk.step is not None:
            walk.resume(await outcome(walk.step, self.address))
        return walk.result

    def _connect(self) -> None:
        """Open the channel in the running loop, the first time; a channel of asyncio works in no other."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise InvalidInput("no event loop is running; call it in a coroutine") from error
        if self._loop is None:
            self._loop, self._channel = loop, self._endpoint.open(grpc.aio)
            self._plans = Plans(self._channel, self._endpoint, self.timeout, read, self._pause)
        elif self._loop is not loop:
            raise InvalidInput("the client belongs to another event loop; make one AsyncClient in each")
