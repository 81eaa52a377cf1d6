"""What a field of a signature means in numpy: its dtype, and the row that stands for an absent value."""

from typing import Any

import ml_dtypes
import numpy as np

from mercato_plugin import Field, Label, Tensor
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
