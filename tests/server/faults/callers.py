"""Callers that log what they send and get: one call at a time by hand, or threads that call until they are stopped."""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import grpc
import numpy as np
from tests.server.calls import failed, request, tensor
from tests.server.faults.history import Call, Row
from tests.server.faults.plugin import WIDTH, row

from mercato.v1 import prediction_pb2, prediction_pb2_grpc, tensor_pb2

INT64 = tensor_pb2.DATA_TYPE_INT64
DEADLINE = 10.0
# Between two calls of one caller: the callers are to be there all the time, not to take the processor from the server.
PACE = 0.005
MOST = 20_000

_ids = itertools.count(1)


class History:
    """The calls of any number of threads, in the order in which they were answered."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._answered = threading.Condition()

    def add(self, call: Call) -> None:
        with self._answered:
            self.calls.append(call)
            self._answered.notify_all()

    def of(self, model: str) -> list[Call]:
        with self._answered:
            return [call for call in self.calls if call.model == model]

    def more(self, model: str, count: int, patience: float = 30.0) -> None:
        """Wait until `count` further calls of a model were answered OK."""
        with self._answered:
            wanted = self._good(model) + count
            assert self._answered.wait_for(lambda: self._good(model) >= wanted, patience), f"{model} does not answer"

    def _good(self, model: str) -> int:
        return sum(call.is_ok and call.model == model for call in self.calls)


class Caller:
    """Calls of one model through one channel, all of them logged."""

    def __init__(self, channel: grpc.Channel, model: str, history: History) -> None:
        self.model = model
        self._history = history
        self._stub = prediction_pb2_grpc.PredictionServiceStub(channel)

    def call(self, command: int = 0, *, rows: int = 1, deadline: float = DEADLINE) -> Call:
        """One attempt with rows that nobody has sent before; the first one has the command."""
        sent_rows = [row(next(_ids), 0 if place else command) for place in range(rows)]
        sent = time.monotonic()
        blank = Call(self.model, sent_rows, sent, sent + deadline, 0.0)
        try:
            answer = self._stub.Predict(_message(self.model, sent_rows), timeout=deadline)
            call = replace(blank, version=answer.model.version, outputs=_rows(answer))
        except grpc.RpcError as error:
            status = failed(error)
            call = replace(blank, code=status.code.name, reason=status.reason)
        call = replace(call, received=time.monotonic())
        self._history.add(call)
        return call

    def in_background(self, command: int = 0, *, deadline: float = DEADLINE) -> "Pending":
        """The same from a thread of its own."""
        return Pending(self, command, deadline)

    def until_answered(self, patience: float = 30.0) -> Call:
        """Call again and again until an answer comes; gives the call that was answered."""
        until = time.monotonic() + patience
        pause = threading.Event()
        while not (call := self.call()).is_ok:
            assert time.monotonic() < until, f"still {call}"
            pause.wait(PACE)
        return call


class Pending:
    """A call that is on its way."""

    def __init__(self, caller: Caller, command: int, deadline: float) -> None:
        self._calls: list[Call] = []
        self._thread = threading.Thread(
            target=lambda: self._calls.append(caller.call(command, deadline=deadline)), daemon=True
        )
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, patience: float = 60.0) -> Call:
        self._thread.join(patience)
        [call] = self._calls
        return call


class Traffic:
    """`count` threads that call one model until they are stopped, each with 1 to 4 rows in turn; bounded in number."""

    def __init__(self, caller: Caller, count: int = 2, deadline: float = DEADLINE) -> None:
        self._caller = caller
        self._deadline = deadline
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(count)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self) -> None:
        for number in range(MOST):
            self._caller.call(rows=1 + number % 4, deadline=self._deadline)
            if self._stopped.wait(PACE):
                return


def _message(model: str, rows: Sequence[Row]) -> prediction_pb2.PredictRequest:
    x = np.array(rows, np.int64)
    return request(model, tensor("x", INT64, x.shape, data=x.tobytes()))


def _rows(answer: prediction_pb2.PredictResponse) -> list[Row]:
    y = np.frombuffer(answer.outputs[0].tensor.data, np.int64).reshape(-1, WIDTH)
    return [tuple(cells) for cells in y.tolist()]
