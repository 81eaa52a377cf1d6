"""A small real server on a loopback socket that gives scripted answers, and the fields it is made of."""

import queue
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mercato.v1 import catalog_pb2, prediction_pb2, prediction_pb2_grpc, tensor_pb2
from mercato.v1.catalog_pb2_grpc import CatalogServiceServicer, add_CatalogServiceServicer_to_server
from mercato_client import values
from mercato_client.schema import Field

CANCELLED = grpc.StatusCode.CANCELLED
BATCH = catalog_pb2.Axis(name="batch")


@dataclass
class Failure:
    """A status to answer with."""

    code: grpc.StatusCode
    text: str = "scripted"
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    details: Sequence[Message] = ()
    trailing: tuple[tuple[str, str], ...] = ()

    def raise_in(self, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", self._encoded()), *self.trailing))
        context.abort(self.code, self.text)

    def _encoded(self) -> bytes:
        return bytes(self.status().SerializeToString())

    def status(self) -> status_pb2.Status:
        """Code, text and details as one message."""
        messages = list(self.details)
        if self.reason:
            messages.insert(
                0, error_details_pb2.ErrorInfo(reason=self.reason, domain="mercato", metadata=self.metadata)
            )
        packed = [AnyMessage() for _ in messages]
        for target, message in zip(packed, messages, strict=True):
            target.Pack(message)
        return status_pb2.Status(code=self.code.value[0], message=self.text, details=packed)


class Script:
    """One PredictStream: every message that has come, and a thread's answers to it.

    A request whose first value is in `held` waits for `release`; others are answered at once. A request is named
    by the end of its id, which counts the requests of the stream.
    """

    def __init__(self) -> None:
        self.requests: list[prediction_pb2.PredictRequest] = []
        self.cancelled: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.got: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.half_closed = threading.Event()
        self.ended = threading.Event()
        self._held: dict[str, prediction_pb2.PredictStreamResponse] = {}
        self._answers: queue.SimpleQueue[prediction_pb2.PredictStreamResponse | Failure | None] = queue.SimpleQueue()

    def run(self, messages: Any, context: Any, server: "FakeServer") -> Iterator[prediction_pb2.PredictStreamResponse]:
        context.add_callback(lambda: self._answers.put(None))
        context.add_callback(self.ended.set)
        threading.Thread(target=self._read, args=(messages, server), daemon=True).start()
        while (answer := self._answers.get()) is not None:
            if isinstance(answer, Failure):
                answer.raise_in(context)
            else:
                yield answer

    def release(self, number: str) -> None:
        """Answer a request that was held back."""
        self._answers.put(self._held.pop(number))
        if self.half_closed.is_set() and not self._held:
            self._answers.put(None)

    def fail(self, failure: Failure | None) -> None:
        """End the whole stream."""
        self._answers.put(failure)

    def _read(self, messages: Any, server: "FakeServer") -> None:
        try:
            for message in messages:
                self._take(message, server)
        except grpc.RpcError:
            return
        self.half_closed.set()
        if not self._held:
            self._answers.put(None)

    def _take(self, message: prediction_pb2.PredictStreamRequest, server: "FakeServer") -> None:
        if message.WhichOneof("kind") == "cancel_id":
            number = counted(message.cancel_id)
            self._held[number] = failed(message.cancel_id, Failure(CANCELLED, "cancelled", "CANCELLED"))
            self.cancelled.put(number)
            return self.release(number)
        request = message.predict
        self.requests.append(request)
        value = struct.unpack_from("<f", request.inputs[0].tensor.data)[0]
        number = counted(request.request_id)
        self._held[number] = self._answer(request, server)
        self.got.put(number)
        return None if value in server.held else self.release(number)

    def _answer(
        self, request: prediction_pb2.PredictRequest, server: "FakeServer"
    ) -> prediction_pb2.PredictStreamResponse:
        if server.failures:
            return failed(request.request_id, server.failures.pop(0))
        answer = server.answer(request, request.request_id)
        return prediction_pb2.PredictStreamResponse(request_id=request.request_id, ok=answer, last=True)


def counted(request_id: str) -> str:
    """Which request of its stream it is, without the stream's own part."""
    return request_id.rpartition("-")[2]


def failed(request_id: str, failure: Failure) -> prediction_pb2.PredictStreamResponse:
    """An error inside a stream."""
    return prediction_pb2.PredictStreamResponse(request_id=request_id, error=failure.status(), last=True)


class Watched(health.HealthServicer):  # type: ignore[misc]
    """The library's health service, whose next Watch calls may fail."""

    def __init__(self, failures: list[Failure]) -> None:
        super().__init__()
        self._failures = failures

    def Watch(self, request: Any, context: Any, *more: Any) -> Any:
        if self._failures:
            self._failures.pop(0).raise_in(context)
        return super().Watch(request, context, *more)


class FakeServer(prediction_pb2_grpc.PredictionServiceServicer, CatalogServiceServicer):
    """Answers Predict with the inputs it got, and describes the models it was given."""

    def __init__(self) -> None:
        self.models: dict[str, catalog_pb2.Model] = {}
        self.refused: list[catalog_pb2.RefusedPlugin] = []
        self.failures: list[Failure] = []
        self.catalog_failures: list[Failure] = []
        self.requests: list[prediction_pb2.PredictRequest] = []
        self.remaining: list[float] = []
        self._streams: list[Script] = []
        self._opened = threading.Condition()
        self.held: set[float] = set()
        self.described = 0
        self.receipt = prediction_pb2.Receipt()
        self.watch_failures: list[Failure] = []
        self.health = Watched(self.watch_failures)
        self.address = ""

    def listen(self, credentials: grpc.ServerCredentials | None, port: int) -> None:
        """Answer on a port of the loopback interface; 0 is a free one."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        prediction_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        add_CatalogServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        name = f"127.0.0.1:{port}"
        bound = self._server.add_secure_port(name, credentials) if credentials else self._server.add_insecure_port(name)
        self.address = f"127.0.0.1:{bound}"
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.offer("pricing.linear", numbers("x", "FP32", 1))
        self._server.start()

    def stop(self) -> None:
        """Break every connection."""
        self._server.stop(None).wait()

    def Predict(self, request: prediction_pb2.PredictRequest, context: Any) -> prediction_pb2.PredictResponse:
        self.requests.append(request)
        self.remaining.append(context.time_remaining())
        if self.failures:
            self.failures.pop(0).raise_in(context)
        return self.answer(request, "r-1")

    def answer(self, request: prediction_pb2.PredictRequest, request_id: str) -> prediction_pb2.PredictResponse:
        """The inputs as outputs."""
        return prediction_pb2.PredictResponse(
            model=prediction_pb2.ServedModel(name=request.model.name, version=1, digest="d1"),
            outputs=request.inputs,
            receipt=self.receipt if request.want_receipt else None,
            request_id=request_id,
        )

    def GetModel(self, request: catalog_pb2.GetModelRequest, context: Any) -> catalog_pb2.GetModelResponse:
        self.described += 1
        self._fail_catalog(context)
        name = request.model.name
        if name not in self.models:
            text = f"model {name!r} not found"
            Failure(grpc.StatusCode.NOT_FOUND, text, "MODEL_NOT_FOUND").raise_in(context)
        return catalog_pb2.GetModelResponse(model=self.models[name])

    def ListModels(self, request: catalog_pb2.ListModelsRequest, context: Any) -> catalog_pb2.ListModelsResponse:
        self._fail_catalog(context)
        models = [self.models[name] for name in sorted(self.models)]
        return catalog_pb2.ListModelsResponse(models=models, refused_plugins=self.refused)

    def _fail_catalog(self, context: Any) -> None:
        if self.catalog_failures:
            self.catalog_failures.pop(0).raise_in(context)

    def PredictStream(self, request_iterator: Any, context: Any) -> Iterator[prediction_pb2.PredictStreamResponse]:
        script = Script()
        with self._opened:
            self._streams.append(script)
            self._opened.notify_all()
        return script.run(request_iterator, context, self)

    def stream(self, number: int = 0) -> Script:
        """The server's side of a stream; waits until that many have been opened before it."""
        with self._opened:
            assert self._opened.wait_for(lambda: len(self._streams) > number, 10)
        return self._streams[number]

    def offer(
        self,
        name: str,
        *inputs: catalog_pb2.Field,
        fingerprint: str = "f1",
        parameters: Sequence[catalog_pb2.Parameter] = (),
    ) -> catalog_pb2.Model:
        """One AVAILABLE version with these inputs, which are also its outputs."""
        signature = catalog_pb2.Signature(inputs=inputs, outputs=inputs, parameters=parameters, fingerprint=fingerprint)
        version = catalog_pb2.ModelVersion(
            version=1, state=catalog_pb2.MODEL_STATE_AVAILABLE, signature=signature, providers=["cpu"], digest="d1"
        )
        plugin = catalog_pb2.Plugin(distribution="mercato-fake", version="0.1.0")
        self.models[name] = catalog_pb2.Model(name=name, plugin=plugin, doc="Echoes.", versions=[version])
        return self.models[name]


def numbers(name: str, dtype: str, *sizes: int, **facts: Any) -> catalog_pb2.Field:
    """A numeric field with a batch axis, unless it is shared."""
    axes = [catalog_pb2.Axis(size=size) for size in sizes]
    axes = axes if facts.get("shared") else [BATCH, *axes]
    return catalog_pb2.Field(name=name, dtype=tensor_pb2.DataType.Value(f"DATA_TYPE_{dtype}"), axes=axes, **facts)


def text(name: str, **facts: Any) -> catalog_pb2.Field:
    """A text field."""
    kind = catalog_pb2.TextKind(max_bytes=100, overflow=catalog_pb2.OVERFLOW_REFUSE)
    return catalog_pb2.Field(name=name, dtype=tensor_pb2.DATA_TYPE_STRING, axes=[BATCH], text=kind, **facts)


def image(name: str) -> catalog_pb2.Field:
    """An image field."""
    kind = catalog_pb2.ImageKind(formats=["jpeg"], max_pixels=100)
    return catalog_pb2.Field(name=name, dtype=tensor_pb2.DATA_TYPE_BYTES, axes=[BATCH], image=kind)


def label(name: str, *names: str) -> catalog_pb2.Field:
    """A label field."""
    kind = catalog_pb2.LabelKind(names=names)
    return catalog_pb2.Field(name=name, dtype=tensor_pb2.DATA_TYPE_STRING, axes=[BATCH], label=kind)


def encode(field: Field, value: object) -> tensor_pb2.Tensor:
    """The tensor that a value becomes."""
    tensor = tensor_pb2.Tensor()
    values.encode(field, value, tensor)
    return tensor
