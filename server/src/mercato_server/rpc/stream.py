"""PredictStream: many requests on one stream, answered as they are ready, errors in-band."""

import asyncio
import time
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError

from mercato.v1 import prediction_pb2
from mercato_server.contract.call import Call, StreamCall
from mercato_server.errors import Cancelled, Draining, InvalidRequest
from mercato_server.rpc import request_id
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.prediction import Order, Pending, Prediction
from mercato_server.rpc.status import to_message
from mercato_server.rpc.wire import PREDICT_STREAM, check_field_count, embedded, text_at
from mercato_server.serving.request import Answer

# What one stream may have open. Reading stops at either limit until answers have gone out, so that a caller that
# sends and never reads costs a bounded amount of memory.
MAX_IN_FLIGHT = 256
MAX_HELD_BYTES = 64 * 1024 * 1024

# What a PredictStreamResponse adds to its answer: the id, `last`, tags and lengths.
FRAME_BYTES = 256

Response = prediction_pb2.PredictStreamResponse
_OK = Response.DESCRIPTOR.fields_by_name["ok"].number
_ID_PATH = (
    prediction_pb2.PredictStreamRequest.DESCRIPTOR.fields_by_name["predict"].number,
    prediction_pb2.PredictRequest.DESCRIPTOR.fields_by_name["request_id"].number,
)
# Among how many fields the id of a message is looked for that was refused unread.
MAX_HEAD = 1024


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

    def count(self) -> int:
        """Number of open streams; any thread may ask."""
        return len(self._open)

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

    def call(self, stream: Call, nbytes: int = 0) -> Call:
        """One request of a stream, sent in so many bytes, with the stream's own deadline where it has one."""
        now = time.monotonic()
        deadline = stream.deadline if stream.bounded else now + self._default_deadline
        return Call(
            stream.method, b"", stream.metadata, now, deadline, stream.bounded, stream.principals, stream.caller, nbytes
        )


class Exchange:
    """One open stream: what is in flight on it, and what waits to be sent."""

    def __init__(self, stream: StreamCall, method: PredictStream) -> None:
        self._stream = stream
        self._method = method
        self._open: dict[str, Asked] = {}
        self._order: Order = {}
        self._unsent: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        self._room = asyncio.Event()
        self._in_flight = 0
        self._held = 0
        self._reader: asyncio.Task[None] | None = None
        self._shut = False

    async def run(self) -> None:
        """Read, answer, and end when nothing is open any more."""
        self._reader = asyncio.create_task(self._read_all())
        writer = asyncio.create_task(self._write_all())
        try:
            await asyncio.wait([self._reader, writer], return_when=asyncio.FIRST_COMPLETED)
            if not self._shut and self._reader.done():
                self._reader.result()
            while self._in_flight and not writer.done():
                await self._wait_for_room()
            if writer.done():
                writer.result()
        finally:
            self._reader.cancel()
            writer.cancel()
            for asked in list(self._open.values()):
                self._take_back(asked)
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
            self._read(data)

    async def _write_all(self) -> None:
        try:
            while True:
                answer, reserved = await self._unsent.get()
                await self._stream.send(answer)
                self._in_flight -= 1
                self._held -= reserved
                self._room.set()
        finally:
            self._room.set()  # nobody waits for a writer that has failed

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _read(self, data: bytes) -> None:
        try:
            message = self._method.parse(data)
            if message.WhichOneof("kind") == "cancel_id":
                self._cancel(message.cancel_id)
            else:
                self._begin(message.predict, len(data))
        except InvalidRequest as error:
            given = text_at(data, _ID_PATH, MAX_HEAD)
            self._refuse(given if request_id.is_usable(given) and given not in self._open else "", error)

    def _cancel(self, given: str) -> None:
        """Whoever asks too late has had the answer already, so an unknown id is no mistake."""
        if asked := self._open.get(given):
            self._take_back(asked)

    def _begin(self, message: prediction_pb2.PredictRequest, size: int) -> None:
        given = message.request_id
        if not request_id.is_usable(given):
            text = f"expected 1 to {request_id.MAX_LENGTH} printable ASCII characters, unique on the stream"
            raise InvalidRequest.of("request_id", text)
        if given in self._open:
            self._refuse(given, InvalidRequest.of("request_id", "a request with this id is open on the stream"))
            return
        prediction = self._method.prediction
        reserved = self._reserve(max(size, prediction.largest_answer(message)))
        asked = Asked(given, message, self._method.call(self._stream.call, size), reserved)
        asked.call.model = prediction.known(message)
        self._open[given] = asked
        self._method.observation.begin(asked.call)
        prediction.gathering.enter()
        prediction.gathering.soon(partial(self._submit, asked))

    def _reserve(self, size: int) -> int:
        """Count a request in by what it holds, or by what its answer can hold."""
        self._in_flight += 1
        self._held += size
        return size

    def _submit(self, asked: "Asked") -> None:
        if asked.is_done:
            return  # taken back before its turn
        try:
            asked.pending = self._method.prediction.submit(asked.message, asked.call, FRAME_BYTES, self._order)
        except Exception as error:
            self._fail(asked, error)
        else:
            asked.pending.future.add_done_callback(partial(self._answer, asked, asked.pending))

    def _answer(self, asked: "Asked", pending: Pending, future: "asyncio.Future[Answer]") -> None:
        if asked.is_done:
            return
        try:
            answer = embedded(_OK, pending.encode(future.result()))
        except Exception as error:
            self._fail(asked, error)
        else:
            self._finish(asked, "OK", Response(request_id=asked.given, last=True).SerializeToString() + answer)

    def _take_back(self, asked: "Asked") -> None:
        self._fail(asked, Cancelled("the request was cancelled on its stream"))

    def _fail(self, asked: "Asked", error: Exception) -> None:
        self._finish(asked, *_failure(asked.given, error, asked.call.model))

    def _finish(self, asked: "Asked", code: str, answer: bytes) -> None:
        del self._open[asked.given]
        asked.is_done = True
        self._method.prediction.gathering.leave()
        if asked.pending is not None:
            asked.pending.close()
        self._method.observation.end(asked.call, code)
        self._held += max(0, len(answer) - asked.reserved)
        self._unsent.put_nowait((answer, max(asked.reserved, len(answer))))

    def _refuse(self, given: str, error: InvalidRequest) -> None:
        """A message that began no request of its own."""
        call = self._method.call(self._stream.call)
        self._method.observation.begin(call)
        code, answer = _failure(given, error)
        self._method.observation.end(call, code)
        self._unsent.put_nowait((answer, self._reserve(len(answer))))


@dataclass(slots=True, eq=False)
class Asked:
    """One request of a stream, from its reading to its last answer; `reserved` is what it counts for, in bytes."""

    given: str
    message: prediction_pb2.PredictRequest
    call: Call
    reserved: int
    pending: Pending | None = None
    is_done: bool = False


def _failure(given: str, error: Exception, model: str = "") -> tuple[str, bytes]:
    code, status = to_message(error, given, model)
    return code.name, Response(request_id=given, error=status, last=True).SerializeToString()
