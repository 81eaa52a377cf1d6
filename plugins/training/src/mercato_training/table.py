"""A table in memory: columns as numpy arrays, and what cleaning dropped."""

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

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.columns

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


def labels_of(table: Table, column: str) -> tuple[str, ...]:
    """The different labels of a column in a fixed order."""
    return tuple(str(label) for label in np.unique(table[column].astype(str)))
