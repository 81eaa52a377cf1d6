"""Calls below the client library: bytes on the wire, requests by hand, statuses with their details."""

import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tests.server.running import Running

from mercato.v1 import catalog_pb2_grpc, prediction_pb2, prediction_pb2_grpc, tensor_pb2

PREDICT = "/mercato.v1.PredictionService/Predict"
STREAM = "/mercato.v1.PredictionService/PredictStream"
PRICING = "pricing.linear"
SEMANTIC = "semantic.encoder"
FP32 = tensor_pb2.DATA_TYPE_FP32
STRING = tensor_pb2.DATA_TYPE_STRING


@dataclass(frozen=True)
class Failed:
    """A status as the caller got it: code, text, trailing metadata and the decoded details."""

    code: grpc.StatusCode
    text: str
    trailing: Mapping[str, str | bytes]
    reason: str
    facts: Mapping[str, str]
    fields: Sequence[str]

    @property
    def everything(self) -> str:
        return f"{self.text} {self.trailing}"


class Wire:
    """One channel and what can be called through it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel: Any = channel  # the stubs of grpc know no call without serialisers
        self.prediction = prediction_pb2_grpc.PredictionServiceStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    def refused(self, method: str, data: bytes, *, timeout: float = 20.0, metadata: Any = ()) -> Failed:
        """Send bytes to a unary method, which must refuse them."""
        try:
            self.channel.unary_unary(method)(data, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            return failed(error)
        raise AssertionError(f"{method} answered instead of refusing")

    def serving(self, service: str = "") -> bool:
        """Whether health says SERVING."""
        answer = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def price(self, quantity: float) -> float:
        """The answer of pricing.linear for one quantity."""
        answer = self.prediction.Predict(pricing([[quantity]]), timeout=20)
        return float(np.frombuffer(answer.outputs[0].tensor.data, np.float32)[0])


class Stream:
    """One open stream; messages go out as they are put in."""

    def __init__(self, channel: grpc.Channel, **facts: Any) -> None:
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        untyped: Any = channel
        self.call = untyped.stream_stream(STREAM)(iter(self._out.get, None), **{"timeout": 300, **facts})

    @property
    def unsent(self) -> int:
        """Messages that the transport has not taken yet."""
        return self._out.qsize()

    def send(self, message: prediction_pb2.PredictRequest | bytes) -> None:
        if not isinstance(message, bytes):
            message = prediction_pb2.PredictStreamRequest(predict=message).SerializeToString()
        self._out.put(message)

    def cancel(self, given: str) -> None:
        self._out.put(prediction_pb2.PredictStreamRequest(cancel_id=given).SerializeToString())

    def half_close(self) -> None:
        self._out.put(None)

    def next(self) -> prediction_pb2.PredictStreamResponse:
        return prediction_pb2.PredictStreamResponse.FromString(next(self.call))

    def rest(self) -> Iterator[prediction_pb2.PredictStreamResponse]:
        return map(prediction_pb2.PredictStreamResponse.FromString, self.call)


@contextmanager
def served(running: Running) -> Iterator[Wire]:
    """Calls of a server from ready to its end, which must be clean; it is gone afterwards in any case."""
    try:
        running.ready()
        with grpc.insecure_channel(running.address) as channel:
            yield Wire(channel)
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


def failed(error: Any) -> Failed:
    """The status of a failed call."""
    status = rpc_status.from_call(error)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        detail.Unpack(info) or detail.Unpack(bad)
    return Failed(
        code=error.code(),
        text=error.details(),
        trailing=dict(error.trailing_metadata() or ()),
        reason=info.reason,
        facts=dict(info.metadata),
        fields=[violation.field for violation in bad.field_violations],
    )


def request(model: str, *inputs: tensor_pb2.NamedTensor, **facts: Any) -> prediction_pb2.PredictRequest:
    """A PredictRequest for a model with these NamedTensors."""
    reference = prediction_pb2.ModelRef(name=model)
    return prediction_pb2.PredictRequest(**{"model": reference, "inputs": inputs, **facts})


def tensor(name: str, dtype: Any = FP32, shape: Sequence[int] = (1, 1), **facts: Any) -> tensor_pb2.NamedTensor:
    """A NamedTensor; without `data` or `items` it holds one FP32 1.0."""
    facts = facts or {"data": b"\0\0\x80\x3f"}
    return tensor_pb2.NamedTensor(name=name, tensor=tensor_pb2.Tensor(dtype=dtype, shape=shape, **facts))


def pricing(rows: Sequence[Sequence[float]], **facts: Any) -> prediction_pb2.PredictRequest:
    """A good request of pricing.linear."""
    x = np.asarray(rows, np.float32)
    return request(PRICING, tensor("x", shape=x.shape, data=x.tobytes()), **facts)


def texts(
    *items: bytes, shape: Sequence[int] | None = None, data: bytes = b"", **facts: Any
) -> prediction_pb2.PredictRequest:
    """A request of semantic.encoder; one row per item when no shape is given."""
    rows = [len(items)] if shape is None else shape
    return request(SEMANTIC, tensor("text", STRING, rows, items=items, data=data), **facts)
