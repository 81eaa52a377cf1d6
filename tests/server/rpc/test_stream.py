"""PredictStream inside one stream: order, ids, cancelling, limits, half-close, the end of the server."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from tests.server.rpc.transport import Transport
from tests.server.serving.puppet import PuppetLane, engine, settle

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_plugin import BatchPolicy, ModelSpec, Tensor
from mercato_server.contract.call import Call
from mercato_server.contract.plugin import PluginInfo
from mercato_server.contract.state import State
from mercato_server.errors import Draining
from mercato_server.rpc.access import Access
from mercato_server.rpc.codec import WIRE
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.prediction import Prediction
from mercato_server.rpc.stream import MAX_IN_FLIGHT, PredictStream
from mercato_server.serving.catalog import Catalog, Version

ROW = Tensor("float32", ("batch", 1))
SPEC = ModelSpec(name="shop.tiny", inputs={"x": ROW}, outputs={"y": ROW}, batch=BatchPolicy(max_rows=1))


class Seen(Observation):
    """Remembers how each request ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.codes: list[str] = []

    def begin(self, call: Call) -> None:
        self.begun += 1

    def end(self, call: Call, code: str) -> None:
        self.codes.append(code)


class Scene:
    """One model before a puppet lane, and one open stream."""

    def __init__(self, seconds: float | None = None) -> None:
        self.lane = PuppetLane()
        version = self.version = Version("shop.tiny", 1, SPEC, PluginInfo("mercato-shop", "1.0", "shop", "shop"))
        version.engine = engine(SPEC, self.lane)
        self.pool = version.engine.pool
        catalog = self.catalog = Catalog()
        catalog.add(version)
        for state in (State.LOADING, State.WARMING, State.AVAILABLE):
            catalog.move(version, state)
        self.seen = Seen()
        prediction = Prediction(catalog, Access(), 1000, 10_000)
        self.method = PredictStream(prediction, self.seen, max_fields=1000, default_deadline=30.0)
        self.transport = Transport(seconds)
        self.ended = asyncio.create_task(self.method.predict_stream(self.transport.stream))

    async def send(self, *messages: bytes) -> None:
        for message in messages:
            self.transport.arrived(message)
        for _ in range(4 + len(messages)):
            await settle()

    async def finish(self, runs: int = 1) -> None:
        """End that many runs of the lane, one after the other."""
        for _ in range(runs):
            await self.lane.finish()
            await settle()

    def answers(self) -> dict[str, prediction_pb2.PredictStreamResponse]:
        """What was sent, by request id; an id must not be answered twice."""
        found = [prediction_pb2.PredictStreamResponse.FromString(data) for data in self.transport.sent]
        assert all(answer.last for answer in found)
        assert len({answer.request_id for answer in found}) == len(found)
        return {answer.request_id: answer for answer in found}


def ask(given: str, value: float = 1.0, **facts: Any) -> bytes:
    """A request for one row."""
    tensor = tensor_pb2.Tensor(dtype=WIRE["float32"], shape=[1, 1], data=np.float32(value).tobytes())
    predict = prediction_pb2.PredictRequest(
        **{
            "model": prediction_pb2.ModelRef(name="shop.tiny"),
            "inputs": [tensor_pb2.NamedTensor(name="x", tensor=tensor)],
            "request_id": given,
            **facts,
        }
    )
    return prediction_pb2.PredictStreamRequest(predict=predict).SerializeToString()


def cancel(given: str) -> bytes:
    return prediction_pb2.PredictStreamRequest(cancel_id=given).SerializeToString()


def value(answer: prediction_pb2.PredictStreamResponse) -> float:
    return float(np.frombuffer(answer.ok.outputs[0].tensor.data, np.float32)[0])


async def test_each_request_gets_its_own_answer_and_half_close_waits_for_all() -> None:
    s = Scene()
    await s.send(ask("a", 1), ask("b", 2), ask("c", 3))
    s.transport.half_close()
    await s.finish(3)
    await s.ended
    assert {given: value(answer) for given, answer in s.answers().items()} == {"a": 1, "b": 2, "c": 3}
    assert s.answers()["a"].ok.request_id == "a"
    assert s.seen.codes == ["OK"] * 3
    assert (s.pool.requests, s.pool.bytes) == (0, 0)


async def test_requests_of_a_stream_keep_their_order_whatever_each_has_waited_on_its_way() -> None:
    s = Scene()
    timeouts = (20.0, 19.95, 19.99, 19.92)
    asked = [ask(str(n), n, timeout=timedelta(seconds=seconds)) for n, seconds in enumerate(timeouts)]
    await s.send(*asked)
    await s.finish(4)
    assert [float(batch.inputs["x"][0, 0]) for batch in s.lane.started] == [0, 1, 2, 3]
    s.ended.cancel()


async def test_a_request_of_a_stream_that_is_due_earlier_goes_first_whatever_came_before() -> None:
    s = Scene()
    timeouts = (3600.0, 20.0, 3600.0, 20.0, 2.0, 20.0)
    asked = [ask(str(n), n, timeout=timedelta(seconds=seconds)) for n, seconds in enumerate(timeouts)]
    await s.send(*asked)
    await s.finish(6)
    assert [float(batch.inputs["x"][0, 0]) for batch in s.lane.started] == [0, 4, 1, 3, 5, 2]
    s.ended.cancel()


async def test_a_more_urgent_request_of_a_stream_may_overtake() -> None:
    s = Scene()
    await s.send(ask("a", 0), ask("b", 1), ask("c", 2), ask("d", 3, priority=1))
    await s.finish(4)
    assert [float(batch.inputs["x"][0, 0]) for batch in s.lane.started][:2] != [0, 1]
    s.ended.cancel()


async def test_a_stream_without_a_request_ends_at_once() -> None:
    s = Scene()
    s.transport.half_close()
    await s.ended
    assert s.transport.sent == []


@pytest.mark.parametrize(
    "message",
    [b"\xff" * 5, b"", ask(""), ask("a\nb"), ask("a" * 129)],
    ids=["noise", "empty", "no id", "id with a newline", "long id"],
)
async def test_a_message_that_cannot_be_named_is_refused_in_band_and_the_stream_goes_on(message: bytes) -> None:
    s = Scene()
    await s.send(message, ask("a"))
    await s.finish()
    assert s.answers()[""].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert s.answers()["a"].HasField("ok")
    assert sorted(s.seen.codes) == ["INVALID_ARGUMENT", "OK"]
    s.ended.cancel()


async def test_a_message_of_too_many_fields_is_refused_under_its_own_id() -> None:
    s = Scene()
    many = prediction_pb2.PredictStreamRequest.FromString(ask("a"))
    many.predict.inputs.extend([tensor_pb2.NamedTensor(name="x")] * 900)
    many.predict.inputs[0].tensor.shape.extend([1] * 2000)
    await s.send(many.SerializeToString(), ask("b"))
    await s.finish()
    assert "more than 1000 fields" in s.answers()["a"].error.message
    assert s.answers()["b"].HasField("ok")
    s.ended.cancel()


async def test_an_id_that_is_open_is_refused_and_may_be_used_again_afterwards() -> None:
    s = Scene()
    await s.send(ask("a", 1), ask("a", 2))
    await s.finish()
    first, second = (prediction_pb2.PredictStreamResponse.FromString(data) for data in s.transport.sent)
    assert "open on the stream" in first.error.message
    assert value(second) == 1
    await s.send(ask("a", 3))
    await s.finish()
    assert value(prediction_pb2.PredictStreamResponse.FromString(s.transport.sent[-1])) == 3
    s.ended.cancel()


async def test_an_error_is_in_band_and_names_what_was_wrong() -> None:
    s = Scene()
    await s.send(ask("a", model=prediction_pb2.ModelRef(name="no.model")), ask("b"))
    await s.finish()
    assert s.answers()["a"].error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert "no.model" in s.answers()["a"].error.message
    assert s.answers()["a"].error.details[0].type_url.endswith("google.rpc.ErrorInfo")
    assert s.answers()["b"].HasField("ok")
    s.ended.cancel()


async def test_a_cancelled_request_is_told_so_and_never_run() -> None:
    s = Scene()
    await s.send(ask("a", 1), ask("b", 2), ask("c", 3), cancel("b"), cancel("unknown"))
    await s.finish(2)
    assert s.answers()["b"].error.code == grpc.StatusCode.CANCELLED.value[0]
    assert {given: value(s.answers()[given]) for given in "ac"} == {"a": 1, "c": 3}
    assert [float(batch.inputs["x"][0, 0]) for batch in s.lane.batches] == [1, 3]
    assert sorted(s.seen.codes) == ["CANCELLED", "OK", "OK"]
    s.ended.cancel()


async def test_a_request_cancelled_in_the_turn_it_came_in_is_answered_too() -> None:
    s = Scene()
    s.transport.arrived(ask("a"))
    s.transport.arrived(cancel("a"))
    for _ in range(8):
        await settle()
    assert s.answers()["a"].error.code == grpc.StatusCode.CANCELLED.value[0]
    assert s.pool.requests == 0
    s.ended.cancel()


async def test_cancelling_the_stream_cancels_what_is_in_it() -> None:
    s = Scene()
    await s.send(ask("a"), ask("b"))
    s.ended.cancel()
    for _ in range(4):
        await settle()
    assert s.ended.cancelled()
    assert s.seen.codes == ["CANCELLED"] * 2
    assert (s.pool.requests, s.pool.bytes) == (0, 0)


async def test_reading_stops_at_the_limit_and_goes_on_when_answers_have_gone_out() -> None:
    s = Scene()
    s.transport.stall()
    await s.send(*(ask(f"r{number}") for number in range(MAX_IN_FLIGHT + 50)))
    await s.finish(MAX_IN_FLIGHT)
    assert s.seen.begun == MAX_IN_FLIGHT
    assert s.transport.unread == 50
    s.transport.go_on()
    for _ in range(MAX_IN_FLIGHT + 50):
        await settle()
    assert s.transport.unread == 0
    await s.finish(50)
    assert len(s.answers()) == MAX_IN_FLIGHT + 50
    s.ended.cancel()


async def test_a_caller_that_reads_nothing_stops_the_reading_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mercato_server.rpc.stream.MAX_HELD_BYTES", 30_000)
    s = Scene()
    s.transport.stall()
    request = prediction_pb2.PredictRequest(model=prediction_pb2.ModelRef(name="shop.tiny"))
    largest = s.method.prediction.largest_answer(request)
    await s.send(*(ask(f"r{number}") for number in range(10, 74)))
    assert s.seen.begun == -(-30_000 // largest)
    s.ended.cancel()


async def test_a_request_counts_for_the_largest_answer_it_can_have() -> None:
    s = Scene()
    known = prediction_pb2.PredictStreamRequest.FromString(ask("a")).predict
    await s.send(ask("a"))
    await s.finish()
    assert len(s.transport.sent[0]) <= s.method.prediction.largest_answer(known) <= 10_000
    known.model.name = "no.model"
    assert s.method.prediction.largest_answer(known) == 0
    s.ended.cancel()


async def test_a_request_that_comes_before_its_model_leaves_nothing_of_the_signature_behind() -> None:
    """Loading replaces a version's spec by the one that was exported."""
    s = Scene()
    early = Version("shop.early", 1, replace(SPEC, name="shop.early"), s.version.plugin)
    s.catalog.add(early)
    await s.send(ask("a", model=prediction_pb2.ModelRef(name="shop.early")))
    assert s.answers()["a"].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert early not in s.method.prediction._codecs
    s.ended.cancel()


async def test_an_answer_that_no_message_holds_fails_alone() -> None:
    s = Scene()
    s.method.prediction._max_bytes = 280
    await s.send(ask("a"), ask("b"))
    await s.finish(2)
    assert "expected at most 24" in s.answers()["a"].error.message
    assert sorted(s.seen.codes) == ["INVALID_ARGUMENT"] * 2
    s.ended.cancel()


@pytest.mark.parametrize(
    ("stream", "asked", "expected"),
    [(None, None, 30), (3600, None, 3600), (None, 60, 60), (3600, 60, 60), (10, 60, 10)],
)
async def test_a_default_counts_only_where_the_caller_set_nothing(
    stream: float | None, asked: int | None, expected: float
) -> None:
    s = Scene(stream)
    message = prediction_pb2.PredictStreamRequest.FromString(ask("a"))
    if asked is not None:
        message.predict.timeout.seconds = asked
    await s.send(message.SerializeToString())
    deadline = s.lane.batches[0].deadline
    assert deadline is not None
    assert deadline - time.monotonic() == pytest.approx(expected, abs=5)
    s.ended.cancel()


async def test_a_request_has_a_deadline_of_its_own() -> None:
    s = Scene()
    message = prediction_pb2.PredictStreamRequest.FromString(ask("a"))
    message.predict.timeout.FromMilliseconds(0)
    nonsense = prediction_pb2.PredictStreamRequest.FromString(ask("c"))
    nonsense.predict.timeout.seconds = -5
    await s.send(message.SerializeToString(), nonsense.SerializeToString(), ask("b"))
    await s.finish()
    assert s.answers()["a"].error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert s.answers()["c"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert s.answers()["b"].HasField("ok")
    s.ended.cancel()


async def test_a_stopping_server_answers_what_it_has_and_ends_the_stream() -> None:
    s = Scene()
    await s.send(ask("a"))
    s.method.shut()
    await s.send(ask("late"))
    assert not s.ended.done()
    await s.finish()
    with pytest.raises(Draining):
        await s.ended
    assert list(s.answers()) == ["a"]


async def test_a_broken_transport_ends_the_stream() -> None:
    s = Scene()
    await s.send(ask("a"))
    s.transport.fail(RuntimeError("connection lost"))
    with pytest.raises(RuntimeError, match="connection lost"):
        await s.ended
    await settle()
    assert s.pool.requests == 0


async def test_a_transport_that_takes_no_answers_ends_the_stream() -> None:
    s = Scene()
    s.transport.cut()
    await s.send(ask("a"), ask("b"))
    await s.finish()
    with pytest.raises(RuntimeError, match="connection lost"):
        await s.ended
    await settle()
    assert s.pool.requests == 0
