"""The lane to one version in a worker process, seen from the server."""

import asyncio
import contextlib
import itertools
import json
import logging
import socket
import time
from collections.abc import Mapping
from typing import Any, Protocol

from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.host import Loaded
from mercato_server.contract.lane import NotRun
from mercato_server.errors import (
    InvalidRequest,
    LoadFailed,
    MercatoError,
    Overloaded,
    PluginFault,
    ProviderUnavailable,
    Violation,
    WorkerCrashed,
)
from mercato_server.runtime.link import Broken, Kind, Link, Message, NoRoom
from mercato_server.runtime.packing import Packed, pack_batch, unpack_result

log = logging.getLogger("mercato.worker")

SLOTS = 2
"""Batches of one front under way: one runs, one is prepared."""

CLOSE_SECONDS = 5.0
"""Longest wait for a version to be let go of, once nothing is before it."""

RETRY_SECONDS = 1.0
"""When a caller may come again for whose batch there was no room."""

_LOAD_ERRORS: dict[str, type[MercatoError]] = {kind.reason: kind for kind in (LoadFailed, ProviderUnavailable)}


class Owner(Protocol):
    """The host, as its lanes know it."""

    def hangs(self, why: str) -> None:
        """End the process, which does not answer."""

    async def ending(self) -> str:
        """How the process, whose line has closed, ended."""

    def forget(self, lane: "ProcessLane") -> None:
        """The lane has closed."""


class _Flight:
    """One message under way, and the answer to come."""

    __slots__ = ("answer", "batch", "kind", "number", "slot")

    def __init__(
        self, kind: Kind, number: int, slot: int, answer: "asyncio.Future[Any]", batch: JoinedBatch | None
    ) -> None:
        self.kind = kind
        self.number = number
        self.slot = slot
        self.answer = answer
        self.batch = batch


class ProcessLane:
    """Belongs to the loop it is made in. Once its process has ended, everything raises WorkerCrashed or LoadFailed."""

    def __init__(
        self, model: str, end: socket.socket, owner: Owner, *, load_timeout: float, batch_timeout: float
    ) -> None:
        self._model = model
        self._owner = owner
        self._load_timeout = load_timeout
        self._batch_timeout = batch_timeout
        self._loop = asyncio.get_running_loop()
        end.setblocking(False)
        self._link: Link | None = Link(end, SLOTS)
        self._descriptor = end.fileno()
        self._loop.add_reader(self._descriptor, self._on_readable)
        self._numbers = itertools.count()
        self._flights: dict[int, _Flight] = {}  # in the order in which they were sent
        self._slots = list(range(SLOTS))
        self._permits = asyncio.Semaphore(SLOTS)
        self._begun = 0.0  # when the first of the flights could begin
        self._watch: asyncio.TimerHandle | None = None

    async def load(self) -> None:
        """Open the sessions and call the plugin's `load`."""
        await self._prepared(Kind.LOAD, "loading")

    async def warm(self) -> Loaded:
        """Run the author's examples."""
        facts = await self._prepared(Kind.WARM, "the warm-up of")
        return Loaded(tuple(facts["providers"]), facts["nbytes"])

    async def run(self, batch: JoinedBatch) -> BatchResult:
        """Run one batch."""
        result: BatchResult = await self._ask(Kind.RUN, batch)
        return result

    def recall(self, batch: JoinedBatch) -> None:
        """Have a batch that has not begun end with NotRun."""
        for flight in self._flights.values():
            if flight.batch is batch and self._link is not None:
                self._link.cancel(flight.slot)

    async def close(self) -> None:
        """Give the model's memory back; what is under way is finished first."""
        if self._link is not None:
            with contextlib.suppress(WorkerCrashed):
                await self._ask(Kind.CLOSE)
        self.lost()
        self._owner.forget(self)

    def lost(self) -> None:
        """The process has ended, or the lane is closed: nothing comes any more."""
        if self._link is None:
            return
        self._loop.remove_reader(self._descriptor)
        self._link.close()
        self._link = None
        if self._watch is not None:
            self._watch.cancel()
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            self._release(flight)
            text = f"model {self._model!r}: its worker ended before the answer was ready; the request may have run"
            _settle(flight.answer, None, WorkerCrashed(text, model=self._model))

    async def _prepared(self, kind: Kind, what: str) -> Any:
        """The answer to a step before serving. Raises LoadFailed, ProviderUnavailable."""
        try:
            async with asyncio.timeout(self._load_timeout):
                return await self._ask(kind)
        except WorkerCrashed:
            how = await self._owner.ending()
            raise LoadFailed(f"the worker {how} while {what} {self._model} was under way") from None
        except TimeoutError:
            took = f"{what} {self._model} took longer than {self._load_timeout:g} s"
            self._owner.hangs(f"was ended: {took}")
            raise LoadFailed(took) from None

    async def _ask(self, kind: Kind, batch: JoinedBatch | None = None) -> Any:
        """Send and wait. Raises WorkerCrashed."""
        packed = None if batch is None else pack_batch(batch)
        await self._permits.acquire()
        flight = self._sent(kind, packed, batch)
        try:
            return await flight.answer
        except asyncio.CancelledError:
            # Only while the slot is still its own.
            if self._link is not None and self._flights.get(flight.number) is flight:
                self._link.cancel(flight.slot)
            raise

    def _sent(self, kind: Kind, packed: Packed | None, batch: JoinedBatch | None) -> _Flight:
        if self._link is None:
            self._permits.release()
            raise self._ended()
        number = next(self._numbers) & 0xFFFFFFFF
        flight = _Flight(kind, number, self._slots.pop(), self._loop.create_future(), batch)
        try:
            self._link.send(kind, number, packed, slot=flight.slot)
        except NoRoom as error:
            self._release(flight)
            raise self._no_room(error) from error
        except OSError as error:
            self._release(flight)
            self._give_up(error)
            raise self._ended() from None
        if not self._flights:
            self._begun = time.monotonic()
        self._flights[number] = flight
        self._guard()
        return flight

    def _give_up(self, error: OSError) -> None:
        """What cannot be sent to a process leaves both sides with different beliefs, so it has to end."""
        if not isinstance(error, ConnectionError):  # of one that has ended
            log.error("nothing can be sent to the worker of model %s: %s", self._model, error)
            self._owner.hangs("was ended: nothing could be sent to it")
        self.lost()

    def _on_readable(self) -> None:
        assert self._link is not None
        try:
            message = self._link.receive()
            if message is None:
                self.lost()
            else:
                self._answered(message)
        except BlockingIOError:
            return
        except Exception as error:  # whatever it sent, it is no answer
            facts = {"model": self._model}
            log.error("the worker of model %s sent what is no answer", self._model, exc_info=error, extra=facts)
            self._owner.hangs("was ended: it sent what is no answer")
            self.lost()

    def _guard(self) -> None:
        """Have the one that is first looked after; loads have bounds of their own."""
        first = next(iter(self._flights.values()), None)
        if first is None or first.kind not in (Kind.RUN, Kind.CLOSE):
            return
        if self._watch is not None and first.kind == Kind.CLOSE:
            self._watch.cancel()
            self._watch = None
        if self._watch is None:
            self._watch = self._loop.call_later(self._bound(first), self._look)

    def _bound(self, first: _Flight) -> float:
        return CLOSE_SECONDS if first.kind == Kind.CLOSE else self._batch_timeout

    def _answered(self, message: Message) -> None:
        """Read the answer at once: the worker may write to that memory again as soon as the slot is free."""
        flight = self._flights[message.number]
        if not flight.answer.done():
            _settle(flight.answer, *self._outcome(flight.kind, message))
        del self._flights[message.number]
        self._begun = time.monotonic()
        self._release(flight)
        self._guard()

    def _outcome(self, asked: Kind, message: Message) -> tuple[Any, Exception | None]:
        match message.kind:
            case Kind.DONE if asked == Kind.RUN:
                return unpack_result(message.view, message.head), None
            case Kind.DONE:
                return json.loads(message.head or b"null"), None
            case Kind.NOT_RUN:
                return None, NotRun()
            case Kind.FAILED:
                return None, _failure(asked, json.loads(message.head), self._model)
        raise Broken(f"a message of kind {message.kind} is no answer")

    def _release(self, flight: _Flight) -> None:
        self._slots.append(flight.slot)
        self._permits.release()

    def _look(self) -> None:
        """End a process that has been busy with one thing too long."""
        self._watch = None
        first = next(iter(self._flights.values()), None)
        if first is None:
            return
        bound = self._bound(first)
        left = self._begun + bound - time.monotonic()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
            return
        what = "closing" if first.kind == Kind.CLOSE else "a batch of"
        self._owner.hangs(f"was ended: {what} model {self._model!r} took longer than {bound:g} s")

    def _no_room(self, error: NoRoom) -> Overloaded:
        log.warning("model %s: no room for a batch: %s", self._model, error, extra={"model": self._model})
        text = f"model {self._model!r}: the server has no memory or descriptors left for the batch; retry later"
        return Overloaded(text, model=self._model, retry_after=RETRY_SECONDS)

    def _ended(self) -> WorkerCrashed:
        """For what comes too late to be handed over."""
        text = f"model {self._model!r}: its worker ended before the request's turn came"
        return WorkerCrashed(text, model=self._model, may_have_run=False)


def _settle(answer: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
        answer.exception()  # asked for here: whoever waited may have gone


def _failure(asked: Kind, facts: Mapping[str, Any], model: str) -> MercatoError:
    """The worker's error, raised again on this side."""
    if asked != Kind.RUN:
        return _LOAD_ERRORS.get(facts["reason"], LoadFailed)(facts["message"])
    if "violations" in facts:
        return InvalidRequest([Violation(field, why) for field, why in facts["violations"]], model=model)
    return PluginFault(facts["message"], model=model, known=facts["id"])
