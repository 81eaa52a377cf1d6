"""Top-k answers: of a request's rows, the candidates, the best by one output, best first."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mercato_plugin import TopK
from mercato_server.contract.batch import Array

Places = npt.NDArray[np.int64]

# From here on, where at most a quarter is kept, finding the k-th first is cheaper than sorting all: for ten of 1024
# rows 5 µs in place of 11, of 16 384 rows 15 in place of 880; below 500 rows it costs more.
_MANY = 512
_FEW = 4


def best(outputs: Mapping[str, Array], top_k: TopK, k: int) -> dict[str, Array]:
    """The `k` rows with the largest `top_k.by`, all of them when there are fewer, and their places, int64.

    Best first: NaN stands last, and of equal rows the one with the smaller place stands first. `k` is at least 1.
    """
    places = _best_places(_falling(outputs[top_k.by].ravel()), k)
    return {**{name: array[places] for name, array in outputs.items()}, top_k.index: places}


def _falling(values: Array) -> Array:
    """Keys that are smaller the larger the value is; NaN, which sorts last, stays NaN."""
    if values.dtype.kind in "iu":
        return ~values  # unlike a minus, without overflow
    exact = values if values.dtype.kind == "f" else values.astype(np.float32)  # bfloat16 is a type of its own
    return -exact


def _best_places(keys: Array, k: int) -> Places:
    if len(keys) >= _MANY and k * _FEW <= len(keys):
        last = np.partition(keys, k - 1)[k - 1]
        if last == last:  # not NaN, which nothing is smaller than
            near = np.flatnonzero(keys <= last)
            return near[np.argsort(keys[near], kind="stable")[:k]].astype(np.int64, copy=False)
    return np.argsort(keys, kind="stable")[:k].astype(np.int64, copy=False)
