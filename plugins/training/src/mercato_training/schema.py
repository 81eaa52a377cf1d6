"""What a model asks of its data: the tables it reads and the kind of each column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["text", "label", "number", "category", "id", "user", "time"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Column:
    """One column. Personal data in texts, labels and categories is masked as they are read.

    `text` is free text; `label` is what is to be learned, at least two different ones;
    `number` is float64; `category` a word; `id` a word that no two rows share; `user` a person's id, hashed where a
    salt is given; `time` a point in time. A row whose value is missing is dropped, unless the column is `optional`:
    then numbers are NaN, texts empty and others None.
    `low` and `high` bound numbers, `max_bytes` the UTF-8 form of texts; rows outside are dropped.
    """

    kind: Kind
    optional: bool = False
    low: float | None = None
    high: float | None = None
    max_bytes: int = 8192


@dataclass(frozen=True)
class TableSchema:
    """One table: the file `<data>/<name>.parquet` or `.csv`, or the one file that was given as data.

    Columns that are not named here are not read. An optional column need not be there.
    """

    name: str
    columns: Mapping[str, Column]
