"""Rows that have been computed: how an answer is cut into them, kept within a bound, and made of them again."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mercato_server.contract.batch import Array
from mercato_server.serving.request import Answer

# What CPython and numpy take beside the data, rounded up: key, entry and row; an array; a string.
ENTRY_BYTES = 512
ARRAY_BYTES = 128
ITEM_BYTES = 64


class Row(NamedTuple):
    """The outputs of one row, each an array of its own that is one row long and read-only, and their size in bytes.

    `cut` names the inputs that were cut in it; None when it is not known which rows of the run were.
    """

    outputs: Mapping[str, Array]
    nbytes: int
    provider: str
    cut: tuple[str, ...] | None


class KnownRows:
    """Rows by key, `max_bytes` in all; the ones used least recently are forgotten first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> Row | None:
        """The row, which counts as used."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: bytes, row: Row) -> None:
        """Keep a row instead of any other of that key, unless it is larger than the whole bound."""
        if (old := self._rows.pop(key, None)) is not None:
            self.nbytes -= old.nbytes
        if row.nbytes > self._max_bytes:
            return
        while self.nbytes + row.nbytes > self._max_bytes:
            _, oldest = self._rows.popitem(last=False)
            self.nbytes -= oldest.nbytes
        self._rows[key] = row
        self.nbytes += row.nbytes


def cut_up(answer: Answer, rows: int, wanted: Sequence[str]) -> list[Row]:
    """The rows of an answer, copied; of their outputs those that are wanted, all if none."""
    outputs = {name: array for name, array in answer.outputs.items() if not wanted or name in wanted}
    cut = _cut_in_each(answer.receipt.truncations, rows)
    return [_row(outputs, row, answer.receipt.provider, cut) for row in range(rows)]


def stacked(rows: Sequence[Row]) -> Mapping[str, Array] | None:
    """The outputs of all rows; None when dtype or shape of an output is not the same in all.

    Those of one row alone are views, which nobody can make writable.
    """
    if len(rows) == 1:
        return {name: array[:] for name, array in rows[0].outputs.items()}
    columns = {name: [row.outputs[name] for row in rows] for name in rows[0].outputs}
    if any(len({(array.dtype, array.shape) for array in column}) > 1 for column in columns.values()):
        return None
    return {name: np.concatenate(column) for name, column in columns.items()}


def _row(outputs: Mapping[str, Array], row: int, provider: str, cut: tuple[str, ...] | None) -> Row:
    own = {name: _copied(array, row) for name, array in outputs.items()}
    return Row(own, ENTRY_BYTES + sum(map(_held, own.values())), provider, cut)


def _copied(array: Array, row: int) -> Array:
    own = array[row : row + 1].copy()
    own.flags.writeable = False
    return own


def _held(array: Array) -> int:
    if array.dtype != object:
        return ARRAY_BYTES + array.nbytes
    items = array.ravel().tolist()
    return ARRAY_BYTES + sum(map(_size, items)) + ITEM_BYTES * len(items)


def _size(item: object) -> int:
    """The data of one item, whatever a plugin has put there: half a character is counted too, a number has none."""
    if isinstance(item, str):
        return len(item.encode(errors="surrogatepass"))
    return len(item) if isinstance(item, bytes) else 0


def _cut_in_each(truncations: Mapping[str, int], rows: int) -> tuple[str, ...] | None:
    """The inputs that were cut in every row; None when one was cut in some of them, nobody knows which."""
    counts = {name: count for name, count in truncations.items() if count}
    return tuple(counts) if all(count == rows for count in counts.values()) else None
