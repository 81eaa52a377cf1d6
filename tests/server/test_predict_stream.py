"""PredictStream of a running server: answers, the bound on what a caller who never reads can hold, the way it ends."""

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tests.server.calls import Stream, Wire, failed, pricing, request, texts
from tests.server.running import Running

from mercato.v1 import prediction_pb2

CAP = 64 * 2**20


def value(answer: prediction_pb2.PredictStreamResponse) -> float:
    return float(np.frombuffer(answer.ok.outputs[0].tensor.data, np.float32)[0])


def test_a_thousand_pipelined_requests_get_their_own_answers(channel: grpc.Channel) -> None:
    stream = Stream(channel)
    for number in range(1000):
        stream.send(pricing([[number / 250]], request_id=str(number)))
    stream.half_close()
    answers = {int(answer.request_id): value(answer) for answer in stream.rest()}
    assert sorted(answers) == list(range(1000))
    assert all(abs(answers[number] - number / 125) < 0.03 for number in answers)
    assert stream.call.code() is StatusCode.OK


def test_errors_stay_in_band_and_models_mix_on_one_stream(channel: grpc.Channel) -> None:
    stream = Stream(channel)
    stream.send(b"\xff" * 5)
    stream.send(request("no.model", request_id="a"))
    stream.send(texts("红色跑鞋".encode(), request_id="b"))
    stream.send(pricing([[1.0]], request_id="c", want_receipt=True))
    stream.half_close()
    answers = {answer.request_id: answer for answer in stream.rest()}
    codes = {given: answer.error.code for given, answer in answers.items() if answer.HasField("error")}
    assert codes == {"": StatusCode.INVALID_ARGUMENT.value[0], "a": StatusCode.NOT_FOUND.value[0]}
    assert answers["b"].ok.model.name == "semantic.encoder"
    assert answers["c"].ok.receipt.provider == "cpu"


def test_a_server_stops_reading_from_a_caller_who_never_reads(server: Running, wire: Wire) -> None:
    # Without these the caller's side of HTTP/2 takes up to 16 MB of answers before anything stalls.
    small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
    with grpc.insecure_channel(server.address, options=small) as own:
        stream = Stream(own)
        server.forget_peak()
        base = server.memory()
        for number in range(20_000):
            stream.send(pricing([[1.0]] * 256, request_id=str(number)))
        before, left = -1, stream.unsent
        while left != before:
            for _ in range(50):
                wire.price(1.0)
            before, left = left, stream.unsent
        assert left > 1000
        stream.call.cancel()
    assert server.peak() - base < CAP
    assert wire.price(2.0) == pytest.approx(4.0, abs=0.03)


def test_a_cancelled_stream_gives_its_permits_back(channel: grpc.Channel, wire: Wire) -> None:
    for _ in range(5):
        stream = Stream(channel)
        for number in range(200):
            stream.send(pricing([[1.0]], request_id=str(number)))
        stream.next()
        stream.call.cancel()
    assert wire.price(2.0) == pytest.approx(4.0, abs=0.03)


def test_a_streams_own_deadline_ends_it(channel: grpc.Channel) -> None:
    stream = Stream(channel, timeout=0.2)
    stream.send(pricing([[1.0]], request_id="a"))
    assert value(stream.next()) == pytest.approx(2.0, abs=0.03)
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert failed(caught.value).code is StatusCode.DEADLINE_EXCEEDED
