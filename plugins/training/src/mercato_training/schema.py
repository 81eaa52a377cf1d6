"""What a model asks of its data: the tables it reads and the kind of each column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["text", "label", "number", "category", "id", "user", "time"]
KINDS: tuple[str, ...] = get_args(Kind)

MAX_LABELS = 1000
"""Different values of a label column."""

ROW_KEY = "(row)"
"""The column of a table that tells its rows apart by what stands in the file."""

LARGEST = 1e30
"""Size of a number: far from the end of float32, and its square from that of float64."""


@dataclass(frozen=True)
class Column:
    """One column. Personal data in texts, labels and categories is masked as they are read.

    `text` is free text; `label` is what is to be learned, at least two different ones;
    `number` is float64; `category` a word; `id` a word that no two rows share; `user` a person's id, hashed where a
    salt is given; `time` a point in time. A row whose value is missing is dropped, unless the column is `optional`:
    then numbers are NaN, texts empty and others None.
    `low` and `high` bound numbers, `max_bytes` the UTF-8 form of texts; rows outside are dropped. A number beyond
    `LARGEST` that stays is an error, and so are more than `max_labels` labels. `hint` is what to do about a value that
    is no number or time.
    """

    kind: Kind
    optional: bool = False
    low: float | None = None
    high: float | None = None
    max_bytes: int = 8192
    max_labels: int = MAX_LABELS
    hint: str = ""


@dataclass(frozen=True)
class TableSchema:
    """One table: the file `<data>/<name>.parquet` or `.csv`, or the one file that was given as data.

    Columns that are not named here are not read. An optional column need not be there. With `key`, names of columns,
    the table has a column `ROW_KEY`, equal where rows of the file are equal in these.
    """

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
