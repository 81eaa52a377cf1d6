"""Request parameters: defaults, every type, and what does not fit."""

from typing import Any

import pytest

from mercato.v1.prediction_pb2 import ParameterValue
from mercato_plugin import Bool, Choice, Float, Int, ModelSpec, Str, Tensor
from mercato_server.errors import InvalidRequest
from mercato_server.rpc.parameters import decode_parameters
from mercato_server.serving.batch import PerRow

SPEC = ModelSpec(
    name="shop.rank",
    inputs={"x": Tensor("float32", ("batch", 1))},
    outputs={"y": Tensor("float32", ("batch", 1))},
    parameters={
        "k": Int(10, low=1, high=100),
        "weight": Float(0.5, low=0.0),
        "explain": Bool(False),
        "order": Choice("price", ("price", "name")),
        "prefix": Str("", max_bytes=6),
        "seed": Int(7, per_row=True),
    },
)


def test_absent_parameters_have_their_defaults() -> None:
    values = decode_parameters(SPEC, {})

    seed = values.pop("seed")
    assert isinstance(seed, PerRow)
    assert seed.value == 7
    assert values == {"k": 10, "weight": 0.5, "explain": False, "order": "price", "prefix": ""}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("k", ParameterValue(int_value=100), 100),
        ("weight", ParameterValue(float_value=2.5), 2.5),
        ("weight", ParameterValue(int_value=2), 2.0),
        ("explain", ParameterValue(bool_value=True), True),
        ("order", ParameterValue(string_value="name"), "name"),
        ("prefix", ParameterValue(string_value="鞋子"), "鞋子"),
    ],
)
def test_a_value_that_fits_is_taken(name: str, value: ParameterValue, expected: Any) -> None:
    assert decode_parameters(SPEC, {name: value})[name] == expected


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("k", ParameterValue(int_value=0), "a whole number from 1 to 100"),
        ("k", ParameterValue(float_value=1.0), "a whole number from 1 to 100"),
        ("k", ParameterValue(), "a whole number from 1 to 100"),
        ("weight", ParameterValue(float_value=float("nan")), "a finite number from 0.0"),
        ("explain", ParameterValue(int_value=1), "a boolean"),
        ("order", ParameterValue(string_value="size"), "one of price, name"),
        ("prefix", ParameterValue(string_value="鞋子鞋"), "a string of at most 6 bytes of UTF-8"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: ParameterValue, wanted: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_parameters(SPEC, {name: value})
    assert [(v.field, v.description) for v in caught.value.violations] == [(f"parameters.{name}", f"expected {wanted}")]


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no parameter 'limit'"):
        decode_parameters(SPEC, {"limit": ParameterValue(int_value=1)})
