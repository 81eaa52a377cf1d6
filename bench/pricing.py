"""The requests of pricing.linear that benchmarks send, and the check of what comes back."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_client import Client

MODEL = "pricing.linear"
VALUES = tuple(number / 8 for number in range(64))
"""Values of x, one request each; the model was trained between 1 and 3 and answers 2x within 0.02 below 8."""
TOLERANCE = 0.02


def payloads(address: str) -> list[bytes]:
    """The bytes that the Python client sends for one row of x."""
    with Client(address) as client:
        fingerprint = client.signature(MODEL).fingerprint
    return [request(MODEL, x, fingerprint).SerializeToString() for x in VALUES]


def request(model: str, x: float, fingerprint: str = "") -> prediction_pb2.PredictRequest:
    """One row of the only input, x."""
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FP32, shape=[1, 1], data=struct.pack("<f", x))
    return prediction_pb2.PredictRequest(
        model=prediction_pb2.ModelRef(name=model),
        inputs=[tensor_pb2.NamedTensor(name="x", tensor=tensor)],
        schema_fingerprint=fingerprint,
    )


def y_of(answer: prediction_pb2.PredictResponse) -> float:
    """The first number of the first output."""
    return float(np.frombuffer(answer.outputs[0].tensor.data, np.float32)[0])


def verify(answers: Sequence[bytes]) -> None:
    """Raise RuntimeError unless every answer is y = 2x of its own request."""
    verify_some(range(len(answers)), answers)


def verify_some(numbers: Iterable[int], answers: Sequence[bytes]) -> None:
    """The same of the calls with these numbers."""
    for number, answer in zip(numbers, answers, strict=True):
        _verify(number, y_of(prediction_pb2.PredictResponse.FromString(answer)))


def verify_values(values: Sequence[float]) -> None:
    """The same of numbers that were read already."""
    for number, y in enumerate(values):
        _verify(number, y)


def _verify(number: int, y: float) -> None:
    x = VALUES[number % len(VALUES)]
    if not abs(y - 2 * x) <= TOLERANCE:
        raise RuntimeError(f"call {number}: got y = {y} for x = {x}, expected 2x within {TOLERANCE}")
