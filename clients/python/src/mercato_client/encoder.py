"""A model's signature made ready for encoding: what does not depend on one request is worked out once."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mercato.v1 import prediction_pb2
from mercato_client import checks
from mercato_client.errors import InvalidInput, Violation
from mercato_client.schema import Signature
from mercato_client.values import encode


class Encoder:
    """Makes requests for one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._fields = {field.name: field for field in signature.inputs}
        self._required = {field.name for field in signature.inputs if not field.optional}
        self._types = {parameter.name: parameter.type for parameter in signature.parameters}

    def request(self, inputs: object, parameters: object) -> prediction_pb2.PredictRequest:
        """A request with inputs, parameters and fingerprint. Raises InvalidInput naming the field.

        `inputs` maps names to values, or is a DataFrame whose columns are the inputs.
        """
        request = prediction_pb2.PredictRequest(schema_fingerprint=self.signature.fingerprint)
        self._add_inputs(request, _by_name(inputs))
        if parameters != {}:
            self._add_parameters(request, parameters)
        return request

    def _add_inputs(self, request: prediction_pb2.PredictRequest, given: Mapping[str, Any]) -> None:
        if not self._required <= given.keys() <= self._fields.keys():
            raise self._misnamed(given)
        for name, value in given.items():
            encode(self._fields[name], value, request.inputs.add(name=name).tensor)

    def _add_parameters(self, request: prediction_pb2.PredictRequest, parameters: object) -> None:
        """Whole numbers become float where the signature says so. The server checks names and bounds."""
        if not isinstance(parameters, Mapping):
            description = f"got {type(parameters).__name__}, expected a mapping of parameter name to value"
            raise checks.wrong("parameters", description)
        for name, value in parameters.items():
            checked = checks.text("parameters", name)
            _parameter(checked, value, self._types.get(checked, ""), request.parameters[checked])

    def _misnamed(self, given: Mapping[str, Any]) -> InvalidInput:
        expected = ", ".join(self._fields)
        unknown = [
            Violation(f"inputs.{name}", f"unknown input, expected {expected}")
            for name in given
            if name not in self._fields
        ]
        missing = [
            Violation(f"inputs.{name}", "missing; the input is required")
            for name in self._fields
            if name in self._required and name not in given
        ]
        return InvalidInput.of(*unknown, *missing)


def _by_name(inputs: object) -> Mapping[str, Any]:
    if isinstance(inputs, Mapping):
        return inputs
    if hasattr(inputs, "columns") and hasattr(inputs, "__getitem__"):
        return {str(column): inputs[column] for column in inputs.columns}
    description = f"got {type(inputs).__name__}, expected a mapping of input name to value, or a DataFrame"
    raise checks.wrong("inputs", description)


def _parameter(name: str, value: object, type_name: str, into: prediction_pb2.ParameterValue) -> None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, str):
        into.string_value = checks.text(f"parameters.{name}", value)
    elif isinstance(value, float) or (isinstance(value, int) and type_name == "float"):
        into.float_value = _float(name, value)
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        into.int_value = value
    else:
        description = f"got {type(value).__name__}, expected bool, int of 64 bits, float or str"
        raise checks.wrong(f"parameters.{name}", description)


def _float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise checks.wrong(f"parameters.{name}", "a value is beyond the range of float") from error
