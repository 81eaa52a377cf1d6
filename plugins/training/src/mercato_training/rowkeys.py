"""Keys of rows: a hash of what stands in the file, whatever a model makes of its columns."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from mercato_training.table import Array


def row_keys(found: pa.Table, columns: Sequence[str]) -> Array:
    """One word per row; rows that are equal in these columns have the same."""
    texts = [_texts(found.column(name)) for name in columns]
    return np.array([_key(row) for row in zip(*texts, strict=True)], object)


def _key(row: tuple[str | None, ...]) -> str:
    return blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _texts(values: pa.ChunkedArray) -> list[str | None]:
    try:
        found = values.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # lists, bytes
        found = [None if value is None else repr(value) for value in values.to_pylist()]
    return [None if text is None else text.strip() for text in found]
