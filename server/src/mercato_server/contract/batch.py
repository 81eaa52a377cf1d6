"""What goes through the lane: one joined batch and its result, and how rows are put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class JoinedBatch:
    """The rows of several requests, joined along the first axis.

    Fields are those of `mercato_plugin.Batch`; `deadline` is the earliest one of the members, in
    seconds of the monotonic clock.
    """

    inputs: Mapping[str, Array]
    rows: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    present: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    deadline: float | None = None


@dataclass(frozen=True)
class BatchResult:
    """The answer rows of one batch, in the order of its rows, and what is known about the run.

    `outputs` holds arrays whose first axis is the batch's rows: numbers, label indices (int64), or
    objects of `str` or `bytes`. `rejected` maps a row to (field, why): that row has no valid answer.
    Times are nanoseconds; `padding` is the share of computed cells that were padding.
    """

    outputs: Mapping[str, Array]
    rejected: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    truncated: Mapping[str, frozenset[int]] = field(default_factory=dict)
    pre_ns: int = 0
    compute_ns: int = 0
    post_ns: int = 0
    padding: float = 0.0
    provider: str = "cpu"


def concatenated(arrays: Sequence[Array]) -> Array:
    """The rows of all, in order; where sizes of their further axes differ, they are widened with 0 or empty strings."""
    if arrays[0].ndim > 1 and len({array.shape[1:] for array in arrays}) > 1:
        widest = tuple(map(max, zip(*(array.shape[1:] for array in arrays), strict=True)))
        arrays = [_widened(array, widest) for array in arrays]
    return np.concatenate(arrays)


def _widened(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape[1:] == shape:
        return array
    wide = np.full((len(array), *shape), "" if array.dtype == object else 0, array.dtype)
    wide[tuple(map(slice, array.shape))] = array
    return wide
