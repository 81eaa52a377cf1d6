"""What the rows of a request weigh before they are computed: text by bytes, images by pixels, others by elements."""

import numpy as np
import numpy.typing as npt

from mercato_plugin import Field, Image, ModelSpec, Text
from mercato_server.contract.batch import Array
from mercato_server.rpc.codec import Decoded
from mercato_server.rpc.images import pixels

Costs = npt.NDArray[np.int64]


def weigh(spec: ModelSpec, decoded: Decoded) -> tuple[int, Costs | None]:
    """The weight of all rows, and that of each where rows differ. A shared input weighs as much in every row."""
    same, each = 0, None
    for name, array in decoded.arrays.items():
        item = spec.inputs[name]
        cost = _cost(name, item, array, decoded)
        if isinstance(cost, int):
            same += cost
        elif item.shared:
            same += int(cost.sum())
        else:
            each = cost if each is None else each + cost
    if each is None:
        return same * decoded.rows, None
    each = each + same
    return int(each.sum()), each if decoded.rows > 1 else None


def _cost(name: str, item: Field, array: Array, decoded: Decoded) -> int | Costs:
    """Of one row where all are alike, else of each."""
    if isinstance(item, Text):
        return np.fromiter((len(text.encode()) for text in array.ravel()), np.int64, array.size)
    if isinstance(item, Image):
        return np.fromiter(map(pixels, array.ravel()), np.int64, array.size)
    if (lengths := decoded.lengths.get(name)) is not None and not item.shared:
        inner: int = array.size // (array.shape[0] * array.shape[1])
        return lengths * inner
    return int(array.size) if item.shared else int(array.size // len(array))
