"""From the catalogue's messages to the dataclasses of `schema`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato_client.schema import (
    Axis,
    Catalog,
    Certificate,
    Field,
    Model,
    ModelVersion,
    OutputError,
    Parameter,
    Plugin,
    RefusedPlugin,
    Signature,
    TopK,
)
from mercato_client.tensors import decode, dtype_name


def to_catalog(message: catalog_pb2.ListModelsResponse) -> Catalog:
    """Everything the server lists."""
    return Catalog(tuple(map(to_model, message.models)), tuple(map(_refused, message.refused_plugins)))


def to_model(message: catalog_pb2.Model) -> Model:
    """One model with its versions."""
    return Model(
        name=message.name,
        plugin=_plugin(message.plugin),
        doc=message.doc,
        license=message.license,
        languages=tuple(message.languages),
        versions=tuple(map(_version, message.versions)),
        labels=dict(message.labels),
        default_version=message.default_version,
    )


def enum_name(name_of: Callable[[Any], str], number: int, prefix: str) -> str:
    """The value's name without its prefix; empty for `unspecified` and for values newer than this client."""
    try:
        name = name_of(number)
    except ValueError:
        return ""
    return "" if name.endswith("_UNSPECIFIED") else name.removeprefix(prefix)


def _plugin(message: catalog_pb2.Plugin) -> Plugin:
    return Plugin(message.distribution, message.version)


def _refused(message: catalog_pb2.RefusedPlugin) -> RefusedPlugin:
    whose = _plugin(message.plugin)
    return RefusedPlugin(whose, message.entry_point, message.code, message.reason, message.model, message.version)


def _version(message: catalog_pb2.ModelVersion) -> ModelVersion:
    return ModelVersion(
        version=message.version,
        state=enum_name(catalog_pb2.ModelState.Name, message.state, "MODEL_STATE_"),
        reason=message.reason,
        since=_moment(message.since) if message.HasField("since") else None,
        digest=message.digest,
        signature=_signature(message.signature) if message.HasField("signature") else None,
        certificate=_certificate(message.certificate) if message.HasField("certificate") else None,
        providers=tuple(message.providers),
        max_rows=message.max_rows,
        memory_bytes=message.memory_bytes,
        batch_rows=message.batch_rows,
        metrics=dict(message.metrics),
    )


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _signature(message: catalog_pb2.Signature) -> Signature:
    return Signature(
        inputs=tuple(map(_field, message.inputs)),
        outputs=tuple(map(_field, message.outputs)),
        parameters=tuple(map(_parameter, message.parameters)),
        fingerprint=message.fingerprint,
        top_k=_top_k(message.top_k) if message.HasField("top_k") else None,
    )


def _top_k(message: catalog_pb2.TopK) -> TopK:
    return TopK(message.by, message.k, message.index)


def _field(message: catalog_pb2.Field) -> Field:
    return Field(
        name=message.name,
        kind=message.WhichOneof("kind") or "tensor",
        dtype=dtype_name(message.dtype),
        axes=tuple(Axis(axis.name, axis.size, axis.max) for axis in message.axes),
        doc=message.doc,
        unit=message.unit,
        low=message.low if message.HasField("low") else None,
        high=message.high if message.HasField("high") else None,
        optional=message.optional,
        default=decode(message.default_value).tolist() if message.HasField("default_value") else None,
        finite=message.finite,
        ragged=message.ragged,
        shared=message.shared,
        max_bytes=message.text.max_bytes or message.image.max_bytes,
        overflow=enum_name(catalog_pb2.Overflow.Name, message.text.overflow, "OVERFLOW_").lower(),
        formats=tuple(message.image.formats),
        max_pixels=message.image.max_pixels,
        labels=tuple(message.label.names),
    )


def _parameter(message: catalog_pb2.Parameter) -> Parameter:
    return Parameter(
        name=message.name,
        type=enum_name(catalog_pb2.ParameterType.Name, message.type, "PARAMETER_TYPE_").lower(),
        default=_value(message.default_value),
        low=message.low if message.HasField("low") else None,
        high=message.high if message.HasField("high") else None,
        choices=tuple(message.choices),
        doc=message.doc,
        per_row=message.per_row,
        max_bytes=message.max_bytes,
    )


def _value(message: prediction_pb2.ParameterValue) -> bool | int | float | str | None:
    kind = message.WhichOneof("kind")
    value: bool | int | float | str | None = getattr(message, kind) if kind else None
    return value


def _certificate(message: catalog_pb2.Certificate) -> Certificate:
    return Certificate(
        kind=enum_name(catalog_pb2.CertificateKind.Name, message.kind, "CERTIFICATE_KIND_").lower(),
        passed=message.passed,
        cases=message.cases,
        errors=tuple(OutputError(e.output, e.max_abs, e.rel_l2, e.tolerance) for e in message.errors),
        opset=message.opset,
        provider=message.provider,
        checks=tuple(message.checks),
        tools=dict(message.tools),
        created=_moment(message.created) if message.HasField("created") else None,
    )
