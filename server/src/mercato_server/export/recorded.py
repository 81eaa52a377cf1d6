"""Recorded outputs of an estimator: arrays in an `.npz` file beside its ONNX file."""

from pathlib import Path

import numpy as np

from mercato_server.contract.batch import Array
from mercato_server.contract.fields import numpy_dtype
from mercato_server.export.graphs import Arrays, ExportedGraph, Recorded


def record(exported: ExportedGraph, inputs: Array) -> Path:
    """Write the source's outputs for one array of inputs, of shape (samples, features), beside the ONNX file."""
    assert exported.reference is not None
    ((name, item),) = exported.spec.inputs.items()
    given = {name: np.asarray(inputs, numpy_dtype(item.dtype))}
    target = exported.path.with_suffix(".npz")
    with target.open("wb") as file:
        arrays = _prefixed("input.", given) | _prefixed("output.", exported.reference(given))
        np.savez(file, allow_pickle=False, **arrays)
    return target


def read(path: Path) -> Recorded | None:
    """The record beside an ONNX file, None when there is none."""
    beside = path.with_suffix(".npz")
    if not beside.is_file():
        return None
    with np.load(beside, allow_pickle=False) as content:
        kept = {name: content[name] for name in content.files}
    return Recorded(_part("input.", kept), _part("output.", kept))


def _prefixed(prefix: str, arrays: Arrays) -> dict[str, Array]:
    return {prefix + name: array for name, array in arrays.items()}


def _part(prefix: str, arrays: Arrays) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
