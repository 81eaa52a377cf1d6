"""What pricing.demand remembers of the table it was fitted to: its columns, their ranges and their words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_plugin import FolderError
from mercato_plugin.masking import masked

FILE = "columns.json"
UNKNOWN = 0
"""Code of a category's word that was not fitted, or is missing."""


@dataclass(frozen=True)
class Numeric:
    """A column of numbers: its name, and the range and mean of what was fitted."""

    name: str
    low: float
    high: float
    mean: float
    scale: float


@dataclass(frozen=True)
class Category:
    """A column of words: its name, and the words whose codes are 1, 2, ..."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """The columns of a fitted model. `algorithm` is `linear` or `trees`; `mean` is the target's, of the fitted rows.

    What stands in the columns `key` decided which rows were held out.
    """

    target: str
    table: str
    time: str
    algorithm: str
    mean: float
    scale: float
    numeric: tuple[Numeric, ...]
    categories: tuple[Category, ...]
    key: tuple[str, ...] = ()

    @property
    def offsets(self) -> list[int]:
        """Where each category's codes begin among those of all."""
        sizes = [len(category.words) + 1 for category in self.categories]
        return [sum(sizes[:place]) for place in range(len(sizes))]

    @property
    def codes(self) -> int:
        """How many codes there are, one unknown per category included."""
        return sum(len(category.words) + 1 for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that is predicted from."""
        return (*(column.name for column in self.numeric), *(category.name for category in self.categories))

    def numbers(self, values: Mapping[str, npt.NDArray[Any]], rows: int) -> npt.NDArray[np.float64]:
        """The numeric columns side by side, float64 of shape (rows, columns), NaN where a value is missing."""
        found = [np.asarray(values[column.name], np.float64).reshape(rows) for column in self.numeric]
        return np.stack(found, axis=1) if found else np.zeros((rows, 0))

    def words(self, values: Mapping[str, Iterable[str | None]], rows: int) -> npt.NDArray[np.int64]:
        """The codes of the categories side by side, int64 of shape (rows, categories), counted among those of all."""
        found = np.zeros((rows, len(self.categories)), np.int64)
        for place, (category, offset) in enumerate(zip(self.categories, self.offsets, strict=True)):
            codes = {word: offset + number for number, word in enumerate(category.words, start=1)}
            # Words with personal data were masked when they were fitted.
            found[:, place] = [codes.get(masked(word or ""), offset + UNKNOWN) for word in values[category.name]]
        return found

    def features(self, numbers: npt.NDArray[np.float64], codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What trees split: numbers, and each category's own codes as numbers, float64 of shape (rows, all columns)."""
        return np.concatenate([numbers, (codes - np.array(self.offsets, np.int64)).astype(np.float64)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `read` is the inverse."""
        return asdict(self)


def read(files: Path) -> Columns:
    """The columns of a model folder. Raises FolderError."""
    try:
        facts = json.loads((files / FILE).read_bytes())
        numeric = tuple(Numeric(**column) for column in facts.pop("numeric"))
        categories = tuple(Category(c["name"], tuple(c["words"])) for c in facts.pop("categories"))
        key = tuple(facts.pop("key", ()))
        return Columns(**facts, numeric=numeric, categories=categories, key=key)
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"pricing.demand: {FILE} of the model folder is missing or not valid: {type(error).__name__}"
        raise FolderError(text) from None
