"""A stream for asyncio: many requests through one call, answered as they are ready."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import grpc.aio

from mercato.v1 import prediction_pb2
from mercato_client import forks
from mercato_client.async_calls import outcome
from mercato_client.errors import DeadlineExceeded, InvalidInput, MercatoError, Unavailable
from mercato_client.flights import CLOSED, ENDED, FULL, GRACE, LIMIT, Flight, Flights, Outgoing, Stale
from mercato_client.plans import Ask
from mercato_client.prediction import Prediction
from mercato_client.status import translate
from mercato_client.surface import Predicts


class AsyncPending(asyncio.Future[Prediction]):
    """An answer to come. Awaiting gives the Prediction or raises a MercatoError; `cancel` tells the server too."""

    def __init__(self, withdraw: Callable[["AsyncPending"], None]) -> None:
        super().__init__()
        self._withdraw = withdraw

    def cancel(self, msg: Any | None = None) -> bool:
        """Take the request back, unless it is answered; whether it is cancelled now."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._withdraw(self)
        return cancelled


class AsyncStream(Predicts[Coroutine[Any, Any, AsyncPending]]):
    """`Stream` for asyncio: `pending = await stream.predict(...)`, then `await pending`; use it with `async with`.

    `predict` waits only while 256 requests are in flight.
    """

    def __init__(self, flights: Flights[AsyncPending]) -> None:
        self._flights = flights
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(LIMIT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._repeating = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._call: Any = None

    async def __aenter__(self) -> Self:
        self._call = self._flights.open(self._messages())
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if forks.lost():
            return
        try:
            if kind is None:
                await self._finish()
        finally:
            self._flights.close()
            self._call.cancel()
            self._stop_timer()
            for task in (self._reader, *self._tasks):
                task.cancel()

    async def _finish(self) -> None:
        if unsettled := list(self._flights.unsettled):
            await asyncio.wait(unsettled)
        self._flights.close()
        self._outgoing.put_nowait(None)
        await asyncio.wait([self._reader], timeout=GRACE)

    async def _predict(self, ask: Ask) -> AsyncPending:
        pending = AsyncPending(self._cancel)
        try:
            await self._proceed(self._flights.begin(ask, pending))
        except BaseException:  # nobody holds a future whose caller is cancelled: leaving the block would wait for it
            pending.cancel()
            raise
        return pending

    async def _proceed(self, flight: Flight[AsyncPending]) -> None:
        """Do the plan's steps until it waits for an answer of the stream, or ends."""
        while (step := flight.walk.step) is not None:
            if not isinstance(step, Outgoing):
                flight.resume(await outcome(step, self._flights.address))
            elif (refused := await self._send(flight, step)) is None:
                return
            else:
                flight.resume(refused)

    async def _send(self, flight: Flight[AsyncPending], step: Outgoing) -> MercatoError | None:
        """Why the request could not be sent."""
        if not await self._found_room(step.deadline.end):
            return DeadlineExceeded(FULL)
        try:
            self._outgoing.put_nowait(self._flights.message(flight, step))
        except MercatoError as error:
            self._room.release()
            return error
        self._watch(step.deadline.end)
        return None

    async def _found_room(self, end: float) -> bool:
        if not self._room.locked():
            return await self._room.acquire()
        try:
            async with asyncio.timeout_at(end):
                return await self._room.acquire()
        except TimeoutError:
            return False

    def _watch(self, end: float) -> None:
        """See to the requests whose time is up at `end`, unless the timer does so earlier anyway."""
        if self._timer is None or end < self._timer.when():
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_at(end, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for data in self._flights.expire():
            self._outgoing.put_nowait(data)
        if (end := self._flights.next_expiry()) is not None:
            self._watch(end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _messages(self) -> AsyncIterator[bytes]:
        while (data := await self._outgoing.get()) is not None:
            yield data

    def _cancel(self, pending: AsyncPending) -> None:
        if data := self._flights.cancellation(pending):
            self._outgoing.put_nowait(data)

    async def _read(self) -> None:
        """Take every answer to its future, until the stream ends."""
        try:
            async for answer in self._call:
                self._answer(answer)
        except grpc.RpcError as error:
            self._end(_broken(error, self._flights.address))
        except asyncio.CancelledError:  # by the end of the block, or together with the client's channel
            self._end(InvalidInput(CLOSED))
        else:
            self._end(Unavailable(ENDED))

    def _answer(self, answer: prediction_pb2.PredictStreamResponse) -> None:
        stale = self._flights.land(answer, self._room.release)
        if stale is not None:  # asking for the new signature must not hold up other answers
            task = asyncio.create_task(self._repeat(stale))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _repeat(self, stale: Stale[AsyncPending]) -> None:
        """Go on with a stale request; one after the other, so that the first alone asks for the signature."""
        async with self._repeating:
            stale.resume()
            await self._proceed(stale.flight)

    def _end(self, error: MercatoError) -> None:
        self._flights.end(error)
        self._outgoing.put_nowait(None)
        for _ in range(LIMIT):
            self._room.release()


def _broken(error: grpc.RpcError, address: str) -> MercatoError:
    """Where a stream ends while a request is being written, grpc.aio gives a status of its own, not the server's."""
    lost = isinstance(error, grpc.aio.AioRpcError) and error.details() == "Internal error from Core"
    return Unavailable(ENDED) if lost else translate(error, address)
