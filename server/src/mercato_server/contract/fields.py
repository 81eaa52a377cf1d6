"""What a signature's fields mean in numpy: dtypes, the rows that stand for what is absent, what an answer has."""

from typing import Any

import ml_dtypes
import numpy as np

from mercato_plugin import Field, Label, ModelSpec, Parameter, Tensor
from mercato_server.contract.batch import Array


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a numeric type name; bfloat16 comes from ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def default_row(item: Field) -> Array:
    """One row without the batch axis: the field's default, else zero or empty; named axes have size 1."""
    sizes = tuple(axis if isinstance(axis, int) else 1 for axis in item.row_axes)
    if isinstance(item, Tensor):
        value = np.asarray(0 if item.default is None else item.default, numpy_dtype(item.dtype))
        return value if value.ndim else np.full(sizes, value)
    if isinstance(item, Label):
        return np.full(sizes, item.names.index(item.default) if item.default is not None else 0, np.int64)
    return np.asarray(item.default or ("" if item.dtype_name == "string" else b""), object)


def shared_row(item: Tensor, value: Array) -> Array:
    """The row that all rows of a request get of its shared ragged value: one of no length has a cell of padding."""
    return value if len(value) else np.full((1, *value.shape[1:]), item.pad, value.dtype)


def answer_fields(spec: ModelSpec) -> dict[str, Field]:
    """What an answer has by name: the model's outputs, and the places of its rows where it ranks them."""
    if spec.top_k is None:
        return dict(spec.outputs)
    place = Tensor("int64", low=0, doc="the row's place among the rows of the request, counted from 0")
    return {**spec.outputs, spec.top_k.index: place}


def plugin_parameters(spec: ModelSpec) -> dict[str, Parameter]:
    """The parameters that a plugin gets; how many rows are answered is the server's own affair."""
    k = None if spec.top_k is None else spec.top_k.k
    return {name: parameter for name, parameter in spec.parameters.items() if name != k}
