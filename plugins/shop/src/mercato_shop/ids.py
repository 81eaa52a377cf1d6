"""The identifiers of rows: a letter and a number of fixed width."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def product_ids(numbers: Iterable[int]) -> list[str]:
    """`p000123` for 123."""
    return [f"p{number:06d}" for number in numbers]


def user_ids(numbers: Iterable[int]) -> list[str]:
    """`u000045` for 45."""
    return [f"u{number:06d}" for number in numbers]


def row_ids(letter: str, rows: int) -> list[str]:
    """`r0000001` and so on, from 1."""
    return [f"{letter}{number:07d}" for number in range(1, rows + 1)]


def timestamps(seconds: Indices) -> pa.Array:
    """Seconds since 1970, UTC, as timestamps in milliseconds without a zone."""
    return pa.array(seconds.astype("datetime64[s]").astype("datetime64[ms]"))
