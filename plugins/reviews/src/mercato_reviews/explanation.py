"""Which parts of a text weighed most: the strongest contributions to one logit, and the sum of all others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHOWN = 5
"""Parts that an answer names."""


@dataclass(frozen=True)
class Strongest:
    """The strongest parts of each row, strongest first.

    `columns` has their columns, -1 where a row has fewer parts, and `weights` what they contribute, 0 there; both of
    shape (rows, 5). `rest`, of shape (rows,), is the sum over all other parts.
    """

    columns: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    rest: npt.NDArray[np.float64]


def strongest(contributions: Array, lengths: npt.NDArray[np.int64], digits: int) -> Strongest:
    """Choose from contributions of shape (rows, parts), of which row i has the first `lengths[i]`.

    Sizes are compared after rounding to `digits` decimals, and of equal ones the earlier is stronger, so that the
    choice does not hang on the last bits of a sum.
    """
    wide = contributions.astype(np.float64)
    wide = np.pad(wide, ((0, 0), (0, max(0, SHOWN - wide.shape[1]))))
    wide[np.arange(wide.shape[1]) >= lengths[:, None]] = 0.0
    columns = np.argsort(-np.round(np.abs(wide), digits), axis=1, kind="stable")[:, :SHOWN]
    weights = np.take_along_axis(wide, columns, axis=1)
    is_part = columns < lengths[:, None]
    # A part of weight 0 stands before what is no part, since it stands before it in its row.
    return Strongest(np.where(is_part, columns, -1), weights, wide.sum(axis=1) - weights.sum(axis=1))
