"""PredictStream: many requests on one stream, answered as they are ready, errors in-band."""

import asyncio
import time
from functools import partial

from google.protobuf.message import DecodeError

from mercato.v1 import prediction_pb2
from mercato_server.contract.call import Call, StreamCall
from mercato_server.errors import Cancelled, Draining, InvalidRequest
from mercato_server.rpc import request_id
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.prediction import Prediction
from mercato_server.rpc.status import to_message
from mercato_server.rpc.wire import PREDICT_STREAM, check_field_count, embedded

# What one stream may have open. Reading stops at either limit until answers have gone out, so that a caller that
# sends and never reads costs a bounded amount of memory.
MAX_IN_FLIGHT = 256
MAX_HELD_BYTES = 64 * 1024 * 1024

Response = prediction_pb2.PredictStreamResponse
_OK = Response.DESCRIPTOR.fields_by_name["ok"].number


class PredictStream:
    """The PredictStream method over one Prediction. `default_deadline` in seconds holds for each request."""

    def __init__(
        self, prediction: Prediction, observation: Observation, *, max_fields: int, default_deadline: float
    ) -> None:
        self.prediction = prediction
        self.observation = observation
        self._max_fields = max_fields
        self._default_deadline = default_deadline
        self._open: set[Exchange] = set()

    async def predict_stream(self, stream: StreamCall) -> None:
        """One stream, until the caller's half-close and the last answer. Raises Draining when the server stops."""
        exchange = Exchange(stream, self)
        self._open.add(exchange)
        try:
            await exchange.run()
        finally:
            self._open.discard(exchange)

    def shut(self) -> None:
        """Read no further; open streams end once what they hold is answered."""
        for exchange in self._open:
            exchange.shut()

    def parse(self, data: bytes) -> prediction_pb2.PredictStreamRequest:
        """One message of a stream. Raises InvalidRequest."""
        check_field_count(data, PREDICT_STREAM, self._max_fields)
        try:
            return prediction_pb2.PredictStreamRequest.FromString(data)
        except DecodeError:
            raise InvalidRequest.of("request", "the bytes are not a valid PredictStreamRequest") from None

    def call(self, stream: Call) -> Call:
        """One request of a stream. The stream's own deadline counts where its caller has set one."""
        now = time.monotonic()
        deadline = now + self._default_deadline
        if stream.bounded:
            deadline = min(deadline, stream.deadline)
        return Call(stream.method, b"", stream.metadata, now, deadline, bounded=False, principal=stream.principal)


class Exchange:
    """One open stream: what is in flight on it, and what waits to be sent."""

    def __init__(self, stream: StreamCall, method: PredictStream) -> None:
        self._stream = stream
        self._method = method
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[str, asyncio.Task[bytes]] = {}
        self._unsent: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        self._room = asyncio.Event()
        self._in_flight = 0
        self._held = 0
        self._largest_answer = 0
        self._reader: asyncio.Task[None] | None = None
        self._shut = False

    async def run(self) -> None:
        """Read, answer, and end when nothing is open any more."""
        self._reader = asyncio.create_task(self._read_all())
        writer = asyncio.create_task(self._write_all())
        try:
            await asyncio.wait([self._reader])
            if not self._shut:
                self._reader.result()
            while self._in_flight:
                await self._wait_for_room()
        finally:
            for task in (self._reader, writer, *self._tasks.values()):
                task.cancel()
        if self._shut:
            raise Draining("the server is stopping; open another stream")

    def shut(self) -> None:
        """Read no further."""
        self._shut = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read_all(self) -> None:
        while True:
            while self._in_flight >= MAX_IN_FLIGHT or self._held >= MAX_HELD_BYTES:
                await self._wait_for_room()
            data = await self._stream.read()
            if data is None:
                return
            self._take(data)

    async def _write_all(self) -> None:
        while True:
            answer, reserved = await self._unsent.get()
            await self._stream.send(answer)
            self._in_flight -= 1
            self._held -= reserved
            self._room.set()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _take(self, data: bytes) -> None:
        try:
            message = self._method.parse(data)
            if message.WhichOneof("kind") == "cancel_id":
                self._cancel(message.cancel_id)
            else:
                self._begin(message, len(data))
        except InvalidRequest as error:
            self._refuse("", error)

    def _cancel(self, cancelled_id: str) -> None:
        """Whoever asks too late has had the answer already, so an unknown id is no mistake."""
        if task := self._tasks.get(cancelled_id):
            task.cancel()

    def _begin(self, message: prediction_pb2.PredictStreamRequest, size: int) -> None:
        request = message.predict
        given = request.request_id
        if not request_id.is_usable(given):
            text = f"expected 1 to {request_id.MAX_LENGTH} printable ASCII characters, unique on the stream"
            raise InvalidRequest.of("request_id", text)
        if given in self._tasks:
            self._refuse(given, InvalidRequest.of("request_id", "a request with this id is open on the stream"))
            return
        call = self._method.call(self._stream.call)
        reserved = self._reserve(size)
        self._method.observation.begin(call)
        task = self._tasks[given] = self._loop.create_task(self._method.prediction.predict_parsed(request, call))
        task.add_done_callback(partial(self._finish, given, call, reserved))

    def _reserve(self, size: int) -> int:
        """Count a request in: what it holds, or what its answer will, going by the answers so far."""
        reserved = max(size, self._largest_answer)
        self._in_flight += 1
        self._held += reserved
        return reserved

    def _finish(self, given: str, call: Call, reserved: int, task: "asyncio.Task[bytes]") -> None:
        del self._tasks[given]
        code, answer = _encoded(given, task)
        self._method.observation.end(call, code)
        self._largest_answer = max(self._largest_answer, len(answer))
        self._held += max(0, len(answer) - reserved)
        self._unsent.put_nowait((answer, max(reserved, len(answer))))

    def _refuse(self, given: str, error: InvalidRequest) -> None:
        """A message that began no request, or none of its own."""
        call = self._method.call(self._stream.call)
        self._method.observation.begin(call)
        code, answer = _failure(given, error)
        self._method.observation.end(call, code)
        self._unsent.put_nowait((answer, self._reserve(len(answer))))


def _encoded(given: str, task: "asyncio.Task[bytes]") -> tuple[str, bytes]:
    """Code and message of a finished request."""
    if task.cancelled():
        return _failure(given, Cancelled("the request was cancelled on its stream"))
    error = task.exception()
    if error is None:
        return "OK", Response(request_id=given, last=True).SerializeToString() + embedded(_OK, task.result())
    if not isinstance(error, Exception):
        raise error
    return _failure(given, error)


def _failure(given: str, error: Exception) -> tuple[str, bytes]:
    code, status = to_message(error)
    return code.name, Response(request_id=given, error=status, last=True).SerializeToString()
