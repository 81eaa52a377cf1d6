"""A table in memory: columns as numpy arrays, and what cleaning dropped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Table:
    """Columns of equal length: numbers as float64, times as datetime64[us], all others as objects of `str` or None.

    `read` counts the rows of the file, `dropped` those that cleaning left out by why.
    """

    name: str
    columns: Mapping[str, Array]
    read: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values())))

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, over all values."""
        found = hashlib.sha256()
        for name, values in self.columns.items():
            found.update(f"{name} {len(values)} {values.dtype}\n".encode())
            found.update(json.dumps(values.tolist()).encode() if values.dtype == object else values.tobytes())
        return found.hexdigest()

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def with_rows(self, other: "Table") -> "Table":
        """The rows of both, which have the same columns."""
        joined = {name: np.concatenate([values, other[name]]) for name, values in self.columns.items()}
        return Table(self.name, joined, self.read, self.dropped)

    def take(self, rows: Array) -> "Table":
        """The rows of these numbers, or where a mask is true."""
        picked = {name: values[rows] for name, values in self.columns.items()}
        return Table(self.name, picked, self.read, self.dropped)


@dataclass(frozen=True)
class Parts:
    """One table in three: to fit, to stop at the right time, and to be judged by."""

    train: Table
    validation: Table
    test: Table


def majority_of(table: Table, column: str) -> str:
    """The most frequent label of a column, of equally frequent ones the first in their order."""
    names, counts = np.unique(table[column].astype(str), return_counts=True)
    return str(names[counts.argmax()])


def labels_of(table: Table, column: str) -> tuple[str, ...]:
    """The different labels of a column in a fixed order."""
    return tuple(str(label) for label in np.unique(table[column].astype(str)))
