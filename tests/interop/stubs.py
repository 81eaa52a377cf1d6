"""The cases with the generated stubs of `mercato.v1` on plain grpcio; each gives the facts that `client.mjs` gives."""

from collections.abc import Callable, Iterable
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from tests.interop.plugin import WIDE
from tests.server.calls import FP32, PREDICT, PRICING, Failed, Stream, Wire, failed, pricing, request, tensor, texts
from tests.server.running import PATIENCE

from mercato.v1 import catalog_pb2, prediction_pb2

Facts = dict[str, Any]
LIMIT = 16 * 2**20
# As large as the server takes. Without these an answer of more than 4 MB is refused on arrival.
SIZES = (("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", -1))
TEXTS = ("红色跑鞋", "red running shoes", "Ünïcode 😈")
GATED = "test.gate"


class Caller(Wire):
    """One channel, what can be called through it, and where it leads."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        super().__init__(channel)
        self.address = address


def run(case: str, address: str) -> Facts:
    """The facts of one case against the server at `address`."""
    with grpc.insecure_channel(address, options=SIZES) as channel:
        return CASES[case](Caller(channel, address))


def empty_unary(wire: Wire) -> Facts:
    listed = wire.catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=PATIENCE)
    empty = prediction_pb2.PredictRequest()
    return {"models": [model.name for model in listed.models], "predict": attempt(wire, empty)}


def large_unary(wire: Wire) -> Facts:
    answer = wire.prediction.Predict(texts(*(b"x" * 8192 for _ in range(64))), timeout=PATIENCE)
    return {"shape": list(answer.outputs[0].tensor.shape), "norms": norms(answer)}


def large_answer(wire: Wire) -> Facts:
    x = np.arange(32 * 32_768, dtype=np.float32)
    sent = request(WIDE, tensor("x", shape=(32, 32_768), data=x.tobytes()))
    answer = wire.prediction.Predict(sent, timeout=PATIENCE)
    got = answer.outputs[0].tensor
    return {"shape": list(got.shape), "bytes": len(got.data), "equal": got.data == x.tobytes()}


def message_limit(wire: Wire) -> Facts:
    return {"at": raw(wire, padded(LIMIT)), "over": raw(wire, padded(LIMIT + 1)), "then": price(wire, 4.0)}


def client_compressed_unary(wire: Wire) -> Facts:
    sent = texts(*(b"x" * 8192 for _ in range(64)))
    kinds = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    answers = {
        name: wire.prediction.Predict(sent, timeout=PATIENCE, compression=kind).outputs[0].tensor
        for name, kind in kinds.items()
    }
    return {name: list(answer.shape) for name, answer in answers.items()}


def client_compressed_streaming(wire: Wire) -> Facts:
    stream = Stream(wire.channel, compression=grpc.Compression.Gzip)
    return conversation(stream, [pricing([[number]], request_id=str(number)) for number in range(4)])


def ping_pong(wire: Wire) -> Facts:
    stream, values = Stream(wire.channel), []
    for number in range(50):
        stream.send(pricing([[number]], request_id=str(number)))
        answer = stream.next()
        values.append([answer.request_id, round(value(answer.ok), 1)])
    stream.half_close()
    return {"values": values, "left": len(list(stream.rest())), "code": stream.call.code().name}


def empty_stream(wire: Wire) -> Facts:
    return conversation(Stream(wire.channel), [])


def client_streaming(wire: Wire) -> Facts:
    sizes = (64, 1, 17, 33)
    return conversation(Stream(wire.channel), [pricing([[2.0]] * n, request_id=str(n)) for n in sizes])


def server_streaming(wire: Wire) -> Facts:
    stream = Stream(wire.channel)
    stream.send(gated(1, "slow"))
    stream.send(request(WIDE, tensor("x"), request_id="quick"))
    first = stream.next()
    stream.cancel("slow")
    second = stream.next()
    stream.half_close()
    order = [first.request_id, second.request_id]
    return {"order": order, "code": decoded(second.error)["code"], "left": len(list(stream.rest()))}


def custom_metadata(wire: Wire) -> Facts:
    given = (("x-request-id", "interop-1"), ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"), ("x-empty", ""))
    answer = wire.prediction.Predict(pricing([[4.0]]), timeout=PATIENCE, metadata=given)
    trailing = wire.refused(PREDICT, request("no.model").SerializeToString(), metadata=given).trailing
    own = wire.prediction.Predict(pricing([[4.0]], request_id="own"), timeout=PATIENCE, metadata=given)
    return {"answer": answer.request_id, "error": trailing["x-request-id"], "own": own.request_id}


def status_code_and_message(wire: Wire) -> Facts:
    wrong = request(PRICING, tensor("x", dtype=FP32 + 1, data=b"\0" * 8))
    missing = request("no.model")
    stream = Stream(wire.channel)
    in_band = []
    for number, sent in enumerate((wrong, missing)):
        sent.request_id = str(number)
        stream.send(sent)
        in_band.append(decoded(stream.next().error))
    stream.half_close()
    left = len(list(stream.rest()))
    return {"rpc": [attempt(wire, wrong), attempt(wire, missing)], "in_band": in_band, "left": left}


def special_status_message(wire: Wire) -> Facts:
    refused = attempt(wire, request(WIDE, tensor("x", data=np.float32(-1).tobytes())))
    named = attempt(wire, request("红色跑鞋\t\n😈"))
    return {"plugin": refused, "name": named}


def unimplemented_method(wire: Wire) -> Facts:
    return told(wire.refused("/mercato.v1.PredictionService/Nothing", b""))


def unimplemented_service(wire: Wire) -> Facts:
    return told(wire.refused("/mercato.v1.NothingService/Predict", b""))


def cancel_after_begin(wire: Wire) -> Facts:
    stream = Stream(wire.channel)
    stream.call.cancel()
    return {"code": ended(stream), "then": price(wire, 4.0)}


def cancel_after_first_response(wire: Wire) -> Facts:
    stream = Stream(wire.channel)
    stream.send(pricing([[4.0]], request_id="first"))
    first = stream.next().request_id
    stream.call.cancel()
    return {"first": first, "code": ended(stream), "then": price(wire, 4.0)}


def timeout_on_sleeping_server(wire: Wire) -> Facts:
    unary = wire.refused(PREDICT, gated(1, "asleep").SerializeToString(), timeout=1.0)
    stream = Stream(wire.channel, timeout=1.0)
    stream.send(gated(1, "behind"))
    return {"unary": unary.code.name, "stream": ended(stream)}


def rpc_soak(wire: Wire) -> Facts:
    values = {price(wire, 4.0) for _ in range(300)}
    return {"values": sorted(values)}


def channel_soak(wire: Caller) -> Facts:
    values = set()
    for _ in range(20):
        with grpc.insecure_channel(wire.address, options=[("grpc.use_local_subchannel_pool", 1)]) as own:
            values.add(price(Wire(own), 4.0))
    return {"values": sorted(values)}


def numbers(wire: Wire) -> Facts:
    x = np.array([0.5, -0.0, 1e-42, 3.4e38, 2**24 + 1], np.float32)
    sent = request(WIDE, tensor("x", shape=(1, 5), data=x.tobytes()), want_receipt=True)
    answer = wire.prediction.Predict(sent, timeout=PATIENCE)
    far = request(WIDE)
    far.model.version = 2**53 + 1
    return {
        "equal": answer.outputs[0].tensor.data == x.tobytes(),
        "version": str(answer.model.version),
        "rows": str(answer.receipt.batch_rows),
        "measured": answer.receipt.compute_ns > 0,
        "far": attempt(wire, far)["text"],
    }


def vectors(wire: Wire) -> Facts:
    answer = wire.prediction.Predict(texts(*(text.encode() for text in TEXTS)), timeout=PATIENCE)
    return {"price": price(wire, 4.0), "vectors": matrix(answer)}


def attempt(wire: Wire, sent: prediction_pb2.PredictRequest) -> Facts:
    """What a request that is refused gets."""
    return told(wire.refused(PREDICT, sent.SerializeToString(), timeout=PATIENCE))


def told(got: Failed) -> Facts:
    """A status as facts."""
    return {
        "code": got.code.name, "text": got.text, "reason": got.reason, "facts": got.facts, "fields": list(got.fields)
    }  # fmt: skip


def decoded(status: Any) -> Facts:
    """A google.rpc.Status inside a stream as the same facts."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(bad)
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    fields = [violation.field for violation in bad.field_violations]
    return told(Failed(code, status.message, {}, info.reason, dict(info.metadata), fields))


def raw(wire: Wire, data: bytes) -> str:
    """The code that bytes sent to Predict get."""
    try:
        wire.channel.unary_unary(PREDICT)(data, timeout=PATIENCE)
    except grpc.RpcError as error:
        return failed(error).code.name
    return "OK"


def padded(size: int) -> bytes:
    """A good request of exactly so many bytes; the rest is a field that the server does not know."""
    message = pricing([[4.0]]).SerializeToString()
    rest = size - len(message) - 6  # two bytes of tag, four of length
    length = bytes((rest >> shift & 0x7F) | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21))
    return message + b"\xa2\x06" + length + b"\0" * rest


def conversation(stream: Stream, sent: Iterable[prediction_pb2.PredictRequest]) -> Facts:
    """Send everything, half-close, then read."""
    for message in sent:
        stream.send(message)
    stream.half_close()
    rows = {answer.request_id: list(answer.ok.outputs[0].tensor.shape) for answer in stream.rest()}
    return {"rows": dict(sorted(rows.items())), "code": stream.call.code().name}


def ended(stream: Stream) -> str:
    """The code that a stream ends with."""
    try:
        for _ in stream.rest():
            pass
    except grpc.RpcError as error:
        return failed(error).code.name
    return "OK"


def gated(x: float, given: str) -> prediction_pb2.PredictRequest:
    return request(GATED, tensor("x", data=np.float32(x).tobytes()), request_id=given)


def price(wire: Wire, quantity: float) -> float:
    return round(wire.price(quantity), 1)


def value(answer: prediction_pb2.PredictResponse) -> float:
    return float(np.frombuffer(answer.outputs[0].tensor.data, np.float32)[0])


def matrix(answer: prediction_pb2.PredictResponse) -> list[list[float]]:
    got = answer.outputs[0].tensor
    rows: list[list[float]] = np.frombuffer(got.data, np.float32).reshape(tuple(got.shape)).tolist()
    return rows


def norms(answer: prediction_pb2.PredictResponse) -> list[float]:
    """The lengths of the rows, each once."""
    return sorted({round(float(np.linalg.norm(row)), 3) for row in matrix(answer)})


CASES: dict[str, Callable[[Caller], Facts]] = {
    case.__name__: case
    for case in (
        empty_unary, large_unary, large_answer, message_limit, client_compressed_unary, client_compressed_streaming,
        ping_pong, empty_stream, client_streaming, server_streaming, custom_metadata, status_code_and_message,
        special_status_message, unimplemented_method, unimplemented_service, cancel_after_begin,
        cancel_after_first_response, timeout_on_sleeping_server, rpc_soak, channel_soak,
        numbers, vectors,
    )
}  # fmt: skip
