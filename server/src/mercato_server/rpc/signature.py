"""A signature as its wire message."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mercato.v1 import catalog_pb2, prediction_pb2, tensor_pb2
from mercato_plugin import Axis, Bool, Choice, Field, Float, Image, Int, Label, ModelSpec, Parameter, Str, Tensor, Text
from mercato_plugin.fields import BATCH, AxisSpec
from mercato_server.contract.fields import answer_fields, default_row
from mercato_server.rpc.codec import WIRE, FieldCodec

_OVERFLOW = {"refuse": catalog_pb2.OVERFLOW_REFUSE, "truncate": catalog_pb2.OVERFLOW_TRUNCATE}
_TYPES = {
    "bool": catalog_pb2.PARAMETER_TYPE_BOOL,
    "int": catalog_pb2.PARAMETER_TYPE_INT,
    "float": catalog_pb2.PARAMETER_TYPE_FLOAT,
    "choice": catalog_pb2.PARAMETER_TYPE_STRING,
    "str": catalog_pb2.PARAMETER_TYPE_STRING,
}


def signature_message(spec: ModelSpec, fingerprint: str) -> catalog_pb2.Signature:
    """What a caller sees of a model."""
    return catalog_pb2.Signature(
        inputs=_fields(spec.inputs, spec.batch.rows_per_request),
        outputs=_fields(answer_fields(spec), spec.batch.rows_per_request),
        parameters=[_parameter(name, parameter) for name, parameter in spec.parameters.items()],
        fingerprint=fingerprint,
        top_k=catalog_pb2.TopK(**asdict(spec.top_k)) if spec.top_k else None,
    )


def _fields(fields: Mapping[str, Field], max_rows: int) -> list[catalog_pb2.Field]:
    return [_field(name, item, max_rows) for name, item in fields.items()]


def _field(name: str, item: Field, max_rows: int) -> catalog_pb2.Field:
    axes: tuple[AxisSpec, ...] = item.row_axes if item.shared else (BATCH, *item.row_axes)
    return catalog_pb2.Field(
        name=name,
        dtype=WIRE[item.dtype_name],
        axes=[_axis(axis, max_rows) for axis in axes],
        doc=item.doc,
        unit=item.unit,
        low=item.low,
        high=item.high,
        optional=item.optional,
        default_value=_default(name, item),
        finite=isinstance(item, Tensor) and item.finite,
        ragged=isinstance(item, Tensor) and item.ragged,
        shared=item.shared,
        **_kind(item),
    )


def _kind(item: Field) -> dict[str, Any]:
    match item:
        case Text():
            return {"text": catalog_pb2.TextKind(max_bytes=item.max_bytes, overflow=_OVERFLOW[item.overflow])}
        case Image():
            return {
                "image": catalog_pb2.ImageKind(
                    formats=item.formats, max_pixels=item.max_pixels, max_bytes=item.max_bytes
                )
            }
        case Label():
            return {"label": catalog_pb2.LabelKind(names=item.names)}
    return {}


def _axis(axis: AxisSpec, max_rows: int) -> catalog_pb2.Axis:
    if isinstance(axis, Axis):
        return catalog_pb2.Axis(name=axis.name, max=axis.max)
    return catalog_pb2.Axis(name=axis, max=max_rows) if isinstance(axis, str) else catalog_pb2.Axis(size=axis)


def _default(name: str, item: Field) -> tensor_pb2.Tensor | None:
    return FieldCodec(name, item, 1).encode(np.asarray(default_row(item))) if item.optional else None


def _parameter(name: str, parameter: Parameter) -> catalog_pb2.Parameter:
    bounds = {}
    if isinstance(parameter, Int | Float):
        bounds = {"low": parameter.low, "high": parameter.high}
    return catalog_pb2.Parameter(
        name=name,
        type=_TYPES[parameter.kind],
        default_value=_value(parameter),
        choices=parameter.choices if isinstance(parameter, Choice) else (),
        doc=parameter.doc,
        per_row=parameter.per_row,
        max_bytes=parameter.max_bytes if isinstance(parameter, Str) else 0,
        **bounds,
    )


def _value(parameter: Parameter) -> prediction_pb2.ParameterValue:
    match parameter:
        case Bool(default=default):
            return prediction_pb2.ParameterValue(bool_value=default)
        case Int(default=default):
            return prediction_pb2.ParameterValue(int_value=default)
        case Float(default=default):
            return prediction_pb2.ParameterValue(float_value=default)
        case Choice(default=default) | Str(default=default):
            return prediction_pb2.ParameterValue(string_value=default)
    raise AssertionError(f"unknown parameter kind {parameter.kind!r}")
