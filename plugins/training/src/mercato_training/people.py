"""Columns of numbers that point to people: phones, cards and the like, which are no quantities."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mercato_plugin.masking import masked

SAMPLE = 1000
"""Different values that are looked at."""

MOST = 0.5
"""Share of them from which the column is one of such numbers."""

_ROWS = 100 * SAMPLE


def point_to_people(values: pa.ChunkedArray) -> bool:
    """Whether masking takes most of a column's numbers out of texts."""
    different = pc.unique(pc.drop_null(values.slice(0, _ROWS)))
    picked = np.linspace(0, len(different) - 1, min(SAMPLE, len(different))).astype(np.int64)
    texts = [_text(value) for value in different.take(pa.array(picked)).to_pylist()]
    known = [text for text in texts if text]
    return sum(masked(text) != text for text in known) > MOST * len(known)


def _text(value: object) -> str:
    """A number as it stands in a text; 13812345678.0 is a phone too."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else ""
    return str(value).strip().removesuffix(".0")
