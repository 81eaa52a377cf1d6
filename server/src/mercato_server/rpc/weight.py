"""What the rows of a request weigh before they are computed: text by bytes, images by pixels, others by elements."""

import numpy as np
import numpy.typing as npt

from mercato_plugin import Field, Image, ModelSpec, Text
from mercato_server.contract.batch import Array, inside
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


def _text_bytes(array: Array, lengths: Costs | None) -> Costs:
    """UTF-8 bytes of each row's text, of ragged rows without their padding."""
    texts = array.ravel() if lengths is None else array[inside(lengths, array.shape[1])]
    sizes = np.fromiter((len(text.encode()) for text in texts), np.int64, texts.size)
    if lengths is None:
        return sizes
    totals, ends = np.append(0, np.cumsum(sizes)), np.cumsum(lengths)
    each: Costs = totals[ends] - totals[ends - lengths]
    return each


def _cost(name: str, item: Field, array: Array, decoded: Decoded) -> int | Costs:
    """Of one row where all are alike, else of each."""
    if isinstance(item, Text):
        return _text_bytes(array, decoded.lengths.get(name))
    if isinstance(item, Image):
        return np.fromiter(map(pixels, array.ravel()), np.int64, array.size)
    if (lengths := decoded.lengths.get(name)) is not None and not item.shared:
        inner: int = array.size // (array.shape[0] * array.shape[1])
        return lengths * inner
    return int(array.size) if item.shared else int(array.size // len(array))
