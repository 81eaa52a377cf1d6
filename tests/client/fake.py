"""A small real server on a loopback socket that gives scripted answers, and the fields it is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health

from mercato.v1 import catalog_pb2, prediction_pb2, prediction_pb2_grpc, tensor_pb2
from mercato.v1.catalog_pb2_grpc import CatalogServiceServicer

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
        messages = list(self.details)
        if self.reason:
            messages.insert(
                0, error_details_pb2.ErrorInfo(reason=self.reason, domain="mercato", metadata=self.metadata)
            )
        packed = [AnyMessage() for _ in messages]
        for target, message in zip(packed, messages, strict=True):
            target.Pack(message)
        status = status_pb2.Status(code=self.code.value[0], message=self.text, details=packed)
        return bytes(status.SerializeToString())


class FakeServer(prediction_pb2_grpc.PredictionServiceServicer, CatalogServiceServicer):
    """Answers Predict with the inputs it got, and describes the models it was given."""

    def __init__(self) -> None:
        self.models: dict[str, catalog_pb2.Model] = {}
        self.refused: list[catalog_pb2.RefusedPlugin] = []
        self.failures: list[Failure] = []
        self.requests: list[prediction_pb2.PredictRequest] = []
        self.remaining: list[float] = []
        self.described = 0
        self.receipt = prediction_pb2.Receipt()
        self.health = health.HealthServicer()
        self.address = ""

    def Predict(self, request: prediction_pb2.PredictRequest, context: Any) -> prediction_pb2.PredictResponse:
        self.requests.append(request)
        self.remaining.append(context.time_remaining())
        if self.failures:
            self.failures.pop(0).raise_in(context)
        return prediction_pb2.PredictResponse(
            model=prediction_pb2.ServedModel(name=request.model.name, version=1, digest="d1"),
            outputs=request.inputs,
            receipt=self.receipt if request.want_receipt else None,
            request_id="r-1",
        )

    def GetModel(self, request: catalog_pb2.GetModelRequest, context: Any) -> catalog_pb2.GetModelResponse:
        self.described += 1
        name = request.model.name
        if name not in self.models:
            text = f"model {name!r} not found"
            Failure(grpc.StatusCode.NOT_FOUND, text, "MODEL_NOT_FOUND").raise_in(context)
        return catalog_pb2.GetModelResponse(model=self.models[name])

    def ListModels(self, request: catalog_pb2.ListModelsRequest, context: Any) -> catalog_pb2.ListModelsResponse:
        models = [self.models[name] for name in sorted(self.models)]
        return catalog_pb2.ListModelsResponse(models=models, refused_plugins=self.refused)

    def PredictStream(self, request_iterator: Any, context: Any) -> Iterator[prediction_pb2.PredictStreamResponse]:
        Failure(grpc.StatusCode.UNIMPLEMENTED).raise_in(context)
        yield prediction_pb2.PredictStreamResponse()

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
