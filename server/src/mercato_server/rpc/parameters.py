"""Request parameters: from the wire's map to typed values, checked against the signature."""

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

from mercato.v1 import prediction_pb2
from mercato_plugin import Bool, Choice, Float, Int, ModelSpec, Parameter, Str
from mercato_server.errors import InvalidRequest, Violation
from mercato_server.rpc.codec import MAX_FAULTS
from mercato_server.serving.batch import PerRow

Value = bool | int | float | str


def decode_parameters(spec: ModelSpec, given: Mapping[str, prediction_pb2.ParameterValue]) -> dict[str, Any]:
    """A value for every parameter of the signature. Raises InvalidRequest for unknown or unfit ones."""
    unknown = islice((name for name in given if name not in spec.parameters), MAX_FAULTS)
    known = ", ".join(spec.parameters) or "none"
    faults = [Violation("parameters", f"no parameter {name[:64]!a}; there are {known}") for name in unknown]
    values: dict[str, Any] = {}
    for name, parameter in spec.parameters.items():
        value: Value | None = _value(parameter, given[name]) if name in given else parameter.default  # type: ignore[attr-defined]
        if value is None:
            faults.append(Violation(f"parameters.{name}", f"expected {_wanted(parameter)}"))
        else:
            values[name] = PerRow(value) if parameter.per_row else value
    if faults:
        raise InvalidRequest(faults, model=spec.name)
    return values


def _value(parameter: Parameter, given: prediction_pb2.ParameterValue) -> Value | None:
    """The value, or None when it does not fit."""
    kind = given.WhichOneof("kind")
    match parameter:
        case Bool() if kind == "bool_value":
            return given.bool_value
        case Int(low=low, high=high) if kind == "int_value":
            return given.int_value if _inside(given.int_value, low, high) else None
        case Float(low=low, high=high) if kind in ("float_value", "int_value"):
            number = given.float_value if kind == "float_value" else float(given.int_value)
            return number if math.isfinite(number) and _inside(number, low, high) else None
        case Choice(choices=choices) if kind == "string_value":
            return given.string_value if given.string_value in choices else None
        case Str(max_bytes=max_bytes) if kind == "string_value":
            return given.string_value if len(given.string_value.encode()) <= max_bytes else None
    return None


def _inside(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _wanted(parameter: Parameter) -> str:
    match parameter:
        case Int(low=low, high=high) | Float(low=low, high=high):
            bounds = [f"from {low}"] * (low is not None) + [f"to {high}"] * (high is not None)
            return " ".join([{"int": "a whole number", "float": "a finite number"}[parameter.kind], *bounds])
        case Choice(choices=choices):
            return f"one of {', '.join(choices)}"
        case Str(max_bytes=max_bytes):
            return f"a string of at most {max_bytes} bytes of UTF-8"
    return "a boolean"
