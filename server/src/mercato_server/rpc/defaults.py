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

    The row lengths of ragged inputs that are absent, 0, or shared are entered in `decoded`.
    """
    inputs: dict[str, Array] = {}
    present: dict[str, Mask] = {}
    for name, item in spec.inputs.items():
        array = decoded.arrays.get(name)
        if item.optional:
            present[name] = np.full(decoded.rows, array is not None)
        if array is None or item.shared:
            if isinstance(item, Tensor) and item.ragged:
                decoded.lengths[name] = np.full(decoded.rows, decoded.lengths.get(name, 0), np.int64)
            row = default_row(item) if array is None else array
            array = np.broadcast_to(row, (decoded.rows, *row.shape))
        inputs[name] = array
    return inputs, present
