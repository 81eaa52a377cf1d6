"""From the columns of a file to a clean table: types checked, what is missing or out of bounds dropped and counted.

A table that is wrong as a whole is an error; a row that is wrong is dropped, with the reason counted.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mercato_plugin.masking import masked
from mercato_training.errors import DataError
from mercato_training.hashing import UserHash
from mercato_training.parsing import MISSING, UNPARSED, first_bad, is_like_a_number, to_numbers, to_times
from mercato_training.rowkeys import row_keys
from mercato_training.schema import LARGEST, ROW_KEY, Column, TableSchema
from mercato_training.table import Array, Table
from mercato_training.texts import LONGEST, counted

MAX_WORD = 256
"""Bytes of a category or id."""

MAX_LABEL = 120
"""Bytes of a label: it is part of the names of metrics."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

Drop = Callable[[Array, str], None]
"""Marks rows, by a mask, as dropped for a reason."""


class Cleaning:
    """One table on its way: which rows stay, and why the others do not. A row counts for its first reason."""

    def __init__(self, schema: TableSchema, found: pa.Table, file: str, user_hash: UserHash | None) -> None:
        self._schema = schema
        self._found = found
        self._file = file
        self._user_hash = user_hash
        self._keep = np.ones(found.num_rows, bool)
        self._dropped: dict[str, int] = {}

    def run(self) -> Table:
        """The clean table. Raises DataError."""
        if not self._found.num_rows:
            raise DataError(f"{self._file} has no row")
        present = {name: column for name, column in self._schema.columns.items() if name in self._found.column_names}
        columns = {name: self._column(name, column) for name, column in present.items()}
        self._drop_copies(columns)
        if self._schema.key:
            columns[ROW_KEY] = row_keys(self._found, self._schema.key)
        table = Table(self._schema.name, columns, self._found.num_rows, self._dropped).take(self._keep)
        if not table.rows:
            raise DataError(f"{self._file}: no row of {table.read} is left: {told(table)}")
        self._check_whole(table)
        return table

    def _column(self, name: str, column: Column) -> Array:
        values = self._found.column(name)
        if column.kind == "number":
            return self._numbers(name, column, values)
        if column.kind == "time":
            return self._times(name, column, values)
        return self._words(name, column, values)

    def _numbers(self, name: str, column: Column, values: pa.ChunkedArray) -> Array:
        numbers = self._parsed(name, values, to_numbers, "a number", column.hint)
        infinite = np.isinf(numbers)
        self._drop(infinite, f"{name} is infinite")
        with np.errstate(invalid="ignore"):
            outside = (numbers < (column.low if column.low is not None else -np.inf)) | (
                numbers > (column.high if column.high is not None else np.inf)
            )
        self._drop(outside & ~infinite, f"{name} is outside {_range(column)}")
        self._check_size(name, numbers)
        self._drop_missing(name, column, np.isnan(numbers))
        return numbers

    def _check_size(self, name: str, numbers: Array) -> None:
        """Squares and float32 end somewhere, and what a fit makes of numbers beyond that is nothing."""
        beyond = np.flatnonzero((np.abs(numbers) > LARGEST) & self._keep)
        if len(beyond):
            raise DataError(
                f"{self._file}: column {name!r}, row {beyond[0] + 1}: got {numbers[beyond[0]]:.4g}, expected "
                f"a number from {-LARGEST:g} to {LARGEST:g}; divide the column by a power of ten, or mend the row"
            )

    def _times(self, name: str, column: Column, values: pa.ChunkedArray) -> Array:
        expected = "a time, such as 2026-03-31 or 2026-03-31 18:00:00"
        times = self._parsed(name, values, to_times, expected, column.hint)
        self._drop_missing(name, column, np.isnat(times))
        return times

    def _parsed(
        self, name: str, values: pa.ChunkedArray, parse: Callable[[Any], Array], expected: str, hint: str
    ) -> Array:
        try:
            return parse(values)
        except UNPARSED:
            row, got = first_bad(values, parse)
            if parse is to_numbers and is_like_a_number(got):
                expected += " of digits and a point alone, such as 1026.50"
            raise DataError(
                f"{self._file}: column {name!r}, row {row + 1}: got {masked(got)[:LONGEST]!r}, expected {expected}"
                + (f"; {hint}" if hint else "")
            ) from None

    def _words(self, name: str, column: Column, values: pa.ChunkedArray) -> Array:
        if not _is_wordlike(values.type):
            raise DataError(f"{self._file}: column {name!r} is {values.type}, expected text")
        words = np.array([_word(value) for value in values.to_pylist()], object)
        missing = np.array(
            [word is None or (column.kind != "text" and word.lower() in MISSING) for word in words], bool
        )
        self._drop_missing(name, column, missing)
        words[missing] = "" if column.kind == "text" else None
        if column.kind == "label":
            self._check_labels(name, words)
        limit = {"text": column.max_bytes, "label": MAX_LABEL}.get(column.kind, MAX_WORD)
        too_long = np.array([word is not None and len(word.encode()) > limit for word in words], bool)
        self._drop(too_long, f"{name} is longer than {limit} bytes")
        return self._private(column, words)

    def _check_labels(self, name: str, words: Array) -> None:
        """A label names a metric and stands in answers: it is one line of what can be seen."""
        for row in np.flatnonzero(self._keep).tolist():
            if words[row] is not None and not words[row].isprintable():
                raise DataError(
                    f"{self._file}: column {name!r}, row {row + 1}: got {masked(words[row])[:LONGEST]!a}, "
                    "expected a label of one line without signs that cannot be seen; is a double quote missing?"
                )

    def _private(self, column: Column, words: Array) -> Array:
        """Without personal data in what a model may keep: texts, labels and words; ids stand in no model."""
        if column.kind == "user" and self._user_hash is not None:
            return np.array([None if word is None else self._user_hash(word) for word in words.tolist()], object)
        if column.kind in ("text", "label", "category"):
            return np.array([None if word is None else masked(word) for word in words.tolist()], object)
        return words

    def _drop_missing(self, name: str, column: Column, missing: Array) -> None:
        if not column.optional:
            self._drop(missing, f"{name} is missing")

    def _drop(self, rows: Array, why: str) -> None:
        now = rows & self._keep
        if now.any():
            self._dropped[why] = int(now.sum())
            self._keep &= ~rows

    def _drop_copies(self, columns: Mapping[str, Array]) -> None:
        """Of rows that are equal as a whole the first stays; one id with two meanings is an error."""
        for name, column in self._schema.columns.items():
            if column.kind != "id" or name not in columns:
                continue
            first: dict[Any, int] = {}
            copies = np.zeros(len(self._keep), bool)
            known = np.array([word is not None for word in columns[name]], bool)
            for row in np.flatnonzero(self._keep & known).tolist():
                earlier = first.setdefault(columns[name][row], row)
                copies[row] = earlier != row
                if earlier != row and not _are_equal(columns, earlier, row):
                    raise DataError(
                        f"{self._file}: rows {earlier + 1} and {row + 1} have the same {name} "
                        f"{masked(columns[name][row])[:LONGEST]!r} and different values; ids must be unique"
                    )
            self._drop(copies, f"{name} is a copy of an earlier row")

    def _check_whole(self, table: Table) -> None:
        for name, column in self._schema.columns.items():
            if column.kind == "label" and name in table:
                count = len(set(table[name].tolist()))
                if not 2 <= count <= column.max_labels:
                    raise DataError(
                        f"{self._file}: column {name!r} has {counted(count, 'label')} in {counted(table.rows, 'row')}, "
                        f"expected 2 to {column.max_labels} different ones"
                    )


def told(table: Table) -> str:
    """What was dropped and why, for people."""
    reasons = ", ".join(f"{count} where {why}" for why, count in table.dropped.items())
    return f"dropped {reasons}" if reasons else "nothing dropped"


def _are_equal(columns: Mapping[str, Array], left: int, right: int) -> bool:
    """NaN is equal to NaN here."""
    pairs = ((values[left], values[right]) for values in columns.values())
    return all(bool(a == b) or bool(a != a and b != b) for a, b in pairs)


def _word(value: Any) -> str | None:
    """Without what nobody sees; None for what is empty then."""
    if value is None:
        return None
    return _CONTROL.sub(" ", str(value)).strip() or None


def _is_wordlike(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = ("is_string", "is_large_string", "is_string_view", "is_integer", "is_boolean", "is_null")
    return any(getattr(pa.types, check)(plain) for check in checks)


def _range(column: Column) -> str:
    return f"{'any' if column.low is None else column.low} to {'any' if column.high is None else column.high}"
