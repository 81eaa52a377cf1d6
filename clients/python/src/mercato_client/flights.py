"""The requests of one stream: their ids, their futures, and what an answer or a broken stream means for each."""

import asyncio
import concurrent.futures
import secrets
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, NamedTuple, TypeVar

from mercato.v1 import prediction_pb2
from mercato_client.channel import Deadline, Endpoint
from mercato_client.errors import DeadlineExceeded, InvalidInput, MercatoError
from mercato_client.plans import Ask, Plan, Plans, Walk, may_be_stale
from mercato_client.prediction import Prediction
from mercato_client.status import from_status

METHOD = "/mercato.v1.PredictionService/PredictStream"
LIMIT = 256
"""Requests that a server reads from one stream before it has answered."""

GRACE = 5.0
"""Seconds that a server gets to end a stream whose last request is answered."""

UNOPENED = "the stream is not open; call it in a block, `with client.stream() as stream`"
CLOSED = "the stream is closed; open another one"
AGAIN = "a stream is opened once; make another one with `client.stream()`"
ENDED = "the server has ended the stream; open another one"
FULL = f"{LIMIT} requests were in flight on the stream until the timeout had passed"


FutureT = TypeVar("FutureT", bound=concurrent.futures.Future[Prediction] | asyncio.Future[Prediction])


class Outgoing(NamedTuple):
    """The step of a plan that sends a request on the stream."""

    request: prediction_pb2.PredictRequest
    deadline: Deadline


class Flight(Generic[FutureT]):
    """One request: its plan, and the future that the caller holds. Everything that goes wrong ends up there.

    `deadline` is known once the request is ready to be sent; until then each step has a timeout of its own.
    """

    __slots__ = ("deadline", "pending", "walk")

    def __init__(self, plan: Plan[Prediction], pending: FutureT) -> None:
        self.walk = Walk(plan)
        self.pending = pending
        self.deadline: Deadline | None = None

    @property
    def overdue(self) -> bool:
        """Whether its time is up."""
        return self.deadline is not None and self.deadline.end <= time.monotonic()

    def resume(self, outcome: object = None) -> None:
        """Tell the plan how its last step ended; where that ends the plan, the future is done."""
        try:
            self.walk.resume(outcome)
        except Exception as error:
            self.fail(error)
        else:
            if self.walk.step is None:
                self._settle(self.pending.set_result, self.walk.result)

    def fail(self, error: Exception) -> None:
        """End here, unless the future is done already."""
        self.walk.step = None
        self._settle(self.pending.set_exception, error)

    def _settle(self, settle: Callable[[Any], None], value: object) -> None:
        if not self.pending.done():
            try:
                settle(value)
            except concurrent.futures.InvalidStateError:  # another thread was faster
                return


class Stale(NamedTuple, Generic[FutureT]):
    """A request whose error a newer signature may mend; its plan has not been told yet."""

    flight: Flight[FutureT]
    error: MercatoError

    def resume(self) -> None:
        """Tell the plan, unless the future is done."""
        if self.flight.pending.done():
            self.flight.walk.step = None
        else:
            self.flight.resume(self.error)


class Flights(Generic[FutureT]):
    """All requests of one stream. `error` is why it takes no more, None while it does.

    `check` raises where the client may not be used any more.
    """

    def __init__(self, plans: Plans, channel: Any, endpoint: Endpoint, check: Callable[[], None]) -> None:
        self._method = channel.stream_stream(METHOD, None, prediction_pb2.PredictStreamResponse.FromString)
        self._check_client = check
        self.address = str(endpoint)
        self.error: MercatoError | None = InvalidInput(UNOPENED)
        self.unsettled: dict[FutureT, Flight[FutureT]] = {}
        self._plans = plans
        self._max_bytes = endpoint.max_message_bytes
        self._open: dict[str, Flight[FutureT]] = {}
        self._name = secrets.token_hex(4)  # by which the server's log tells the requests of streams apart
        self._ids = count(1)

    def open(self, messages: object) -> Any:
        """The call that sends `messages`; requests are taken from now on."""
        self._check_client()
        if self.error is None or self.error.message != UNOPENED:
            raise InvalidInput(AGAIN)
        self.error = None
        return self._method(messages)

    def close(self) -> None:
        """Take no more requests, and cancel what is open."""
        self.error = InvalidInput(CLOSED)
        for pending in list(self.unsettled):
            pending.cancel()

    def begin(self, ask: Ask, pending: FutureT) -> Flight[FutureT]:
        """The flight of one request, at its first step. Raises why the stream takes no more."""
        self._check_client()
        self._check_open()
        flight = Flight(self._plans.predict(ask, Outgoing), pending)
        self.unsettled[pending] = flight
        pending.add_done_callback(self._settled)
        flight.resume()
        return flight

    def _settled(self, pending: Any) -> None:
        del self.unsettled[pending]

    def _check_open(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)

    def message(self, flight: Flight[FutureT], step: Outgoing) -> bytes:
        """The bytes to send for a request, which is open from now on. Raises DeadlineExceeded or InvalidInput."""
        self._check_open()
        request, number = step.request, f"{self._name}-{next(self._ids)}"
        request.request_id = number
        request.timeout.FromNanoseconds(int(step.deadline.remaining() * 1e9))
        data = prediction_pb2.PredictStreamRequest(predict=request).SerializeToString()
        if len(data) > self._max_bytes:
            text = f"message too large: {len(data)} bytes, at most {self._max_bytes}; send fewer rows per call"
            raise InvalidInput(text)
        flight.deadline = step.deadline
        self._open[number] = flight
        return data

    def land(self, answer: prediction_pb2.PredictStreamResponse, release: Callable[[], None]) -> Stale[FutureT] | None:
        """Take an answer to its flight and `release` its place; one that may be stale is given back."""
        flight = self._open.pop(answer.request_id, None) if answer.last else None
        if flight is None:
            return None
        release()
        if flight.pending.done():
            return None
        outcome = answer.ok if answer.HasField("ok") else from_status(answer.error, self.address)
        if isinstance(outcome, MercatoError) and may_be_stale(outcome):
            return Stale(flight, outcome)
        flight.resume(outcome)
        return None

    def cancellation(self, pending: FutureT) -> bytes | None:
        """The bytes that take an open request back, None when it is not open."""
        for number, flight in list(self._open.items()):
            if flight.pending is pending:
                return prediction_pb2.PredictStreamRequest(cancel_id=number).SerializeToString()
        return None

    def expire(self) -> list[bytes]:
        """Fail every flight whose time is up; the bytes that tell the server so."""
        due = [flight for flight in list(self.unsettled.values()) if flight.overdue]
        for flight in due:
            flight.fail(DeadlineExceeded(f"no answer from {self.address} within the timeout"))
        return [data for flight in due if (data := self.cancellation(flight.pending))]

    def next_expiry(self) -> float | None:
        """When the next flight's time is up, in seconds of `time.monotonic`; None when there is none."""
        return min((flight.deadline.end for flight in list(self.unsettled.values()) if flight.deadline), default=None)

    def end(self, error: MercatoError) -> None:
        """Take no more requests, and fail what is open."""
        self.error = self.error or error
        for flight in list(self.unsettled.values()):
            flight.fail(error)
            if not flight.pending.cancelled():
                flight.pending.exception()  # asyncio would log every future of a broken stream that nobody awaits
