"""A caller's inputs and parameters as the entries of a PredictRequest."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_client import checks
from mercato_client.errors import InvalidInput, Violation
from mercato_client.schema import Field, Signature
from mercato_client.values import encode


def encode_inputs(inputs: object, signature: Signature) -> list[tensor_pb2.NamedTensor]:
    """One entry per input. `inputs` maps names to values, or is a DataFrame whose columns are the inputs."""
    given = _by_name(inputs)
    fields = {field.name: field for field in signature.inputs}
    _check_names(given, fields)
    return [tensor_pb2.NamedTensor(name=name, tensor=encode(fields[name], given[name])) for name in given]


def encode_parameters(parameters: object, signature: Signature) -> dict[str, prediction_pb2.ParameterValue]:
    """Values by name; whole numbers become float where the signature says so. The server checks names and bounds."""
    if not isinstance(parameters, Mapping):
        description = f"got {type(parameters).__name__}, expected a mapping of parameter name to value"
        raise checks.wrong("parameters", description)
    types = {parameter.name: parameter.type for parameter in signature.parameters}
    named = {checks.text("parameters", name): value for name, value in parameters.items()}
    return {name: _parameter(name, value, types.get(name, "")) for name, value in named.items()}


def _by_name(inputs: object) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if hasattr(inputs, "columns") and hasattr(inputs, "__getitem__"):
        return {str(column): inputs[column] for column in inputs.columns}
    description = f"got {type(inputs).__name__}, expected a mapping of input name to value, or a DataFrame"
    raise checks.wrong("inputs", description)


def _check_names(given: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    expected = ", ".join(fields)
    unknown = [
        Violation(f"inputs.{name}", f"unknown input, expected {expected}") for name in given if name not in fields
    ]
    missing = [
        Violation(f"inputs.{name}", "missing; the input is required")
        for name, field in fields.items()
        if name not in given and not field.optional
    ]
    if unknown or missing:
        raise InvalidInput.of(*unknown, *missing)


def _parameter(name: str, value: object, type_name: str) -> prediction_pb2.ParameterValue:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return prediction_pb2.ParameterValue(bool_value=value)
    if isinstance(value, str):
        return prediction_pb2.ParameterValue(string_value=checks.text(f"parameters.{name}", value))
    if isinstance(value, float) or (isinstance(value, int) and type_name == "float"):
        return prediction_pb2.ParameterValue(float_value=_float(name, value))
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return prediction_pb2.ParameterValue(int_value=value)
    description = f"got {type(value).__name__}, expected bool, int of 64 bits, float or str"
    raise checks.wrong(f"parameters.{name}", description)


def _float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise checks.wrong(f"parameters.{name}", "a value is beyond the range of float") from error
