"""What a plugin's serving code gets and gives: Batch, Ragged and Graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """Rows of different length for one graph input: `values` holds them back to back.

    `values` has shape (sum(lengths), ...), `lengths` is int64 of shape (rows,). The runtime sorts rows
    by length, cuts runs and pads each run to its longest row with the graph input's `pad`.
    """

    values: Array
    lengths: npt.NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | Sequence[float] | Array], dtype: str) -> "Ragged":
        """Join a sequence of rows into one array of `dtype`."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        return cls(np.concatenate([np.asarray(row, dtype) for row in rows]), lengths)


@dataclass
class Batch:
    """One joined batch, as preprocess, postprocess and predict see it.

    `inputs` maps each input of the signature to an array whose first axis is `rows`: numbers in their
    dtype, text as objects of `str`, images as objects of `bytes`, labels as int64 indices. Arrays are
    read-only. `lengths` has the true row lengths of ragged inputs, `present` a boolean row mask for
    optional ones. `parameters` holds plain values, or arrays of shape (rows,) for `per_row` ones; the one that says how
    many ranked rows are answered is not among them.
    `remaining` is the time in seconds until the earliest deadline, None when there is none. `state` is
    the plugin's own: what preprocess leaves there, postprocess finds.
    """

    inputs: Mapping[str, Array]
    rows: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    present: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    remaining: float | None = None
    state: Any = None
    rejected: dict[int, tuple[str, str]] = field(default_factory=dict)
    truncated: dict[str, set[int]] = field(default_factory=dict)

    def reject(self, row: int, field: str, why: str) -> None:
        """Refuse one row: only the request that owns it fails, with INVALID_ARGUMENT naming `field`.

        Raises IndexError for a row that the batch does not have; `field` and `why` become `str`.
        """
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} was rejected, the batch has rows 0 to {self.rows - 1}")
        self.rejected.setdefault(int(row), (str(field), str(why)))

    def truncate(self, row: int, field: str) -> None:
        """Note that the row's `field` was cut to the model's limit; the caller's receipt says so."""
        self.truncated.setdefault(field, set()).add(int(row))


class Graphs(Protocol):
    """The exported graphs, for a model that defines `predict` in place of the pair."""

    def run(self, inputs: Mapping[str, Array | Ragged], graph: str = "model") -> dict[str, Array]:
        """Run one graph over all rows and give its outputs by name, rows in the order of the inputs."""
        ...
