"""Absent optional inputs and shared ones: what a request leaves out becomes rows, at no cost where it is whole."""

import numpy as np
import numpy.typing as npt

from mercato_plugin import ModelSpec, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import default_row
from mercato_server.rpc.codec import Decoded

Mask = npt.NDArray[np.bool_]


def fill_absent(spec: ModelSpec, decoded: Decoded) -> tuple[dict[str, Array], dict[str, Mask]]:
    """Every input of the signature with `rows` as its first axis, and the row mask of each optional one.

    An absent ragged input gets lengths of 0, which are entered in `decoded`.
    """
    inputs: dict[str, Array] = {}
    present: dict[str, Mask] = {}
    for name, item in spec.inputs.items():
        array = decoded.arrays.get(name)
        if item.optional:
            present[name] = np.full(decoded.rows, array is not None)
        if array is None and isinstance(item, Tensor) and item.ragged:
            decoded.lengths[name] = np.zeros(decoded.rows, np.int64)
        if array is None or item.shared:
            row = default_row(item) if array is None else array
            array = np.broadcast_to(row, (decoded.rows, *row.shape))
        inputs[name] = array
    return inputs, present
