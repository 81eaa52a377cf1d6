"""Which rows are for fitting, stopping and judging: by a hash of their content, or by time.

By content a row's part depends on the row alone, so that the same rows are held out whenever the data is read again,
however it is ordered and whatever was added. By time it depends on the latest rows that there are: later ones that are
added move the border.
"""

from hashlib import blake2b

import numpy as np

from mercato_training.errors import DataError
from mercato_training.table import Array, Parts, Table
from mercato_training.texts import counted

TEST = 0.2
VALIDATION = 0.1
ENOUGH = 50
"""Different rows of which hardly ever none falls into the smallest part: once in 200 times."""
_SCALE = float(1 << 64)


def by_content(table: Table, columns: tuple[str, ...]) -> Parts:
    """Rows that are equal in these columns stand in one part. Raises DataError when a part has no row."""
    places = _places(table, columns)
    need = f"equal rows count once; bring {ENOUGH} different ones or more"
    return _parts(table, places < TEST, (places >= TEST) & (places < TEST + VALIDATION), need)


def by_time(table: Table, column: str) -> Parts:
    """The latest points in time are judged by, those before them stop; all rows of one time stand in one part.

    Raises DataError for a column that holds no times, and when a part has no row.
    """
    times = table[column]
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise DataError(f"{table.name}: column {column!r} has values that are no time, so none are the latest")
    known, counts = np.unique(times, return_counts=True)
    shares = np.cumsum(counts) / len(times)
    ranks = shares[np.searchsorted(known, times)]
    need = f"those of one {column} stand together; bring 10 different ones or more, with as many rows each"
    return _parts(table, ranks > 1 - TEST, (ranks > 1 - TEST - VALIDATION) & (ranks <= 1 - TEST), need)


def _places(table: Table, columns: tuple[str, ...]) -> Array:
    """A number in [0, 1) for every row, evenly spread."""
    rows = zip(*(table[name].tolist() for name in columns), strict=True)
    digests = (blake2b(repr(row).encode(), digest_size=8).digest() for row in rows)
    return np.fromiter((int.from_bytes(digest) / _SCALE for digest in digests), np.float64, table.rows)


def _parts(table: Table, test: Array, validation: Array, need: str) -> Parts:
    parts = Parts(table.take(~(test | validation)), table.take(validation), table.take(test))
    for name, part in (("fitting", parts.train), ("validation", parts.validation), ("test", parts.test)):
        if not part.rows:
            raise DataError(f"{table.name}: of {counted(table.rows, 'row')} none is left for {name}; {need}")
    return parts
