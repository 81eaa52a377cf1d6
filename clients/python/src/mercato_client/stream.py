"""A stream for threads: many requests through one call, answered as they are ready."""

import concurrent.futures
import math
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from mercato.v1 import prediction_pb2
from mercato_client import forks
from mercato_client.calls import outcome
from mercato_client.errors import DeadlineExceeded, MercatoError, Unavailable
from mercato_client.flights import ENDED, FULL, GRACE, LIMIT, Flight, Flights, Outgoing, Stale
from mercato_client.plans import Ask
from mercato_client.prediction import Prediction
from mercato_client.status import translate
from mercato_client.surface import Predicts


class Pending(concurrent.futures.Future[Prediction]):
    """An answer to come. `result` gives the Prediction or raises a MercatoError; `cancel` tells the server too."""

    def __init__(self, withdraw: Callable[["Pending"], None]) -> None:
        super().__init__()
        self._withdraw = withdraw
        self._notifying = threading.Lock()

    def cancel(self) -> bool:
        """Take the request back, unless it is answered; whether it is cancelled now."""
        cancelled = super().cancel()
        if cancelled:
            if self._notifying.acquire(blocking=False):  # never released: whoever waits is told once
                self.set_running_or_notify_cancel()
            self._withdraw(self)
        return cancelled


class Stream(Predicts[Pending]):
    """Many requests through one call; use it as a context manager: one opened by hand and dropped keeps its threads.

    `predict` gives a Pending at once, and waits only while 256 requests are in flight. Whatever is wrong with
    one request is raised by its Pending; `predict` itself raises only when the stream is closed or broken.
    Leaving the block waits for every answer; leaving it by an exception cancels what is open.
    Threads may share a stream. Callbacks run in its thread: they must neither wait nor call `predict`.
    """

    def __init__(self, flights: Flights[Pending]) -> None:
        self._flights = flights
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(LIMIT)
        self._clock = Clock(self._flights, self._outgoing.put)
        self._reader = threading.Thread(target=self._read, name="mercato-stream", daemon=True)
        self._stale: queue.SimpleQueue[Stale[Pending] | None] = queue.SimpleQueue()
        self._repeater: threading.Thread | None = None
        self._call: Any = None

    def __enter__(self) -> Self:
        self._call = self._flights.open(iter(self._outgoing.get, None))
        self._reader.start()
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if forks.lost():
            return
        try:
            if kind is None:
                self._finish()
        finally:
            self._flights.close()
            self._call.cancel()
            self._clock.stop()

    def _finish(self) -> None:
        concurrent.futures.wait(list(self._flights.unsettled))
        self._flights.close()
        self._outgoing.put(None)
        self._reader.join(GRACE)

    def _predict(self, ask: Ask) -> Pending:
        pending = Pending(self._cancel)
        try:
            self._proceed(self._flights.begin(ask, pending))
        except BaseException:  # nobody holds a future whose caller is interrupted: leaving the block would wait for it
            pending.cancel()
            raise
        return pending

    def _proceed(self, flight: Flight[Pending]) -> None:
        """Do the plan's steps until it waits for an answer of the stream, or ends."""
        while (step := flight.walk.step) is not None:
            if not isinstance(step, Outgoing):
                flight.resume(outcome(step, self._flights.address))
            elif (refused := self._send(flight, step)) is None:
                return
            else:
                flight.resume(refused)

    def _send(self, flight: Flight[Pending], step: Outgoing) -> MercatoError | None:
        """Why the request could not be sent."""
        if not self._room.acquire(timeout=max(0.0, step.deadline.end - time.monotonic())):
            return DeadlineExceeded(FULL)
        try:
            data = self._flights.message(flight, step)
        except MercatoError as error:
            self._room.release()
            return error
        self._outgoing.put(data)
        self._clock.note(step.deadline.end)
        return None

    def _cancel(self, pending: Pending) -> None:
        if data := self._flights.cancellation(pending):
            self._outgoing.put(data)

    def _read(self) -> None:
        """The thread that takes every answer to its future, until the stream ends."""
        try:
            for answer in self._call:
                self._answer(answer)
        except grpc.RpcError as error:
            self._end(translate(error, self._flights.address))
        else:
            self._end(Unavailable(ENDED))

    def _answer(self, answer: prediction_pb2.PredictStreamResponse) -> None:
        stale = self._flights.land(answer, self._room.release)
        if stale is None:
            return
        if self._repeater is None:  # asking for the new signature waits, which this thread must not
            self._repeater = threading.Thread(target=self._repeat, name="mercato-repeat", daemon=True)
            self._repeater.start()
        self._stale.put(stale)

    def _repeat(self) -> None:
        """The thread that goes on with stale requests, one after the other: the first alone asks for the signature."""
        for stale in iter(self._stale.get, None):
            stale.resume()
            self._proceed(stale.flight)

    def _end(self, error: MercatoError) -> None:
        self._flights.end(error)
        self._outgoing.put(None)
        self._stale.put(None)
        self._room.release(LIMIT)


class Clock:
    """The thread that fails the requests of a stream whose time is up."""

    def __init__(self, flights: Flights[Pending], send: Callable[[bytes], None]) -> None:
        self._flights = flights
        self._send = send
        self._changed = threading.Condition()
        self._wakes = 0.0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="mercato-clock", daemon=True)
        self.start = self._thread.start

    def note(self, end: float) -> None:
        """A request's time is up at `end`, in seconds of `time.monotonic`."""
        if end < self._wakes:
            with self._changed:
                self._changed.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._stopped:
            for data in self._flights.expire():
                self._send(data)
            with self._changed:
                self._sleep()

    def _sleep(self) -> None:
        """Until the next time is up. Whoever notes one from here on waits for the lock, and then wakes this thread."""
        self._wakes = math.inf
        end = self._flights.next_expiry()
        self._wakes = math.inf if end is None else end
        if not self._stopped:
            self._changed.wait(None if end is None else max(0.0, end - time.monotonic()))
