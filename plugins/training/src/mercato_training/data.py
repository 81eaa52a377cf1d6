"""What `--data` names: a file, or a folder with a file per table or a folder of pictures per label."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mercato_training import reading, splits
from mercato_training.cleaning import Cleaning, to_numbers
from mercato_training.errors import DataError
from mercato_training.hashing import UserHash
from mercato_training.reading import Images
from mercato_training.schema import Kind, TableSchema
from mercato_training.table import Parts, Table


@dataclass
class Data:
    """Reads tables and pictures, cleaned; keeps what it read for the record.

    `renames` maps the file's column names to those that the model asks for. With `user_hash` people's ids are hashed.
    `is_whole` has `held_out` give every row: the data is a test set of its own.
    """

    path: Path
    renames: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    user_hash: UserHash | None = None
    is_whole: bool = False
    tables: dict[str, Table] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def table(self, schema: TableSchema) -> Table:
        """The table that the schema asks for, validated and cleaned. Raises DataError."""
        path = reading.table_file(self.path, schema.name)
        wanted = self._wanted(path, schema)
        found = reading.read_columns(path, wanted, self.encoding)
        table = Cleaning(schema, found, path.name, self.user_hash).run()
        self._note(schema.name, path, table)
        return table

    def kinds(self, name: str) -> dict[str, Kind]:
        """The columns of a table under the names that the model sees, and what each looks like. Raises DataError."""
        path = reading.table_file(self.path, name)
        names = {theirs: self.renames.get(theirs, theirs) for theirs in reading.column_names(path, self.encoding)}
        if len(names) > reading.MAX_COLUMNS:
            raise DataError(f"{path.name}: {len(names)} columns, expected at most {reading.MAX_COLUMNS}")
        found = reading.read_columns(path, names, self.encoding)
        return {column: kind_of(found.column(column)) for column in found.column_names}

    def parts(self, table: Table, *, by: str | tuple[str, ...] = (), after: str = "") -> Parts:
        """The table in three parts: rows that are equal in the columns `by` (all columns when not given) together.

        With `after`, a column of times, the latest rows are held out. Raises DataError when a part would be empty.
        """
        if after:
            return splits.by_time(table, after)
        columns = (by,) if isinstance(by, str) else by
        return splits.by_content(table, columns or tuple(table.columns))

    def held_out(self, table: Table, *, by: str | tuple[str, ...] = (), after: str = "") -> Table:
        """The rows that no training on this data has seen: the test part, or all of data that is a test set."""
        return table if self.is_whole else self.parts(table, by=by, after=after).test

    def images(self) -> Images:
        """The pictures of a folder with one folder per label. Raises DataError."""
        return reading.read_images(self.path)

    def _wanted(self, path: Path, schema: TableSchema) -> dict[str, str]:
        """The file's names of the columns to read, and ours. Raises DataError for one that is missing."""
        there = {self.renames.get(name, name): name for name in reading.column_names(path, self.encoding)}
        missing = [name for name, column in schema.columns.items() if name not in there and not column.optional]
        if missing:
            raise DataError(
                f"{path.name}: column {missing[0]!r} is missing; there are {_listed(there)}; "
                f"--rename THEIRS={missing[0]} takes one of another name"
            )
        return {there[name]: name for name in schema.columns if name in there}

    def _note(self, name: str, path: Path, table: Table) -> None:
        self.tables[name] = table
        with path.open("rb") as file:
            self.digests[name] = hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(values: pa.ChunkedArray) -> Kind:
    """What a column looks like: numbers and times by their type or, in a CSV file, by what parses; else categories."""
    if pa.types.is_temporal(values.type):
        return "time"
    if pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        return "number"
    try:
        to_numbers(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        return "category"
    return "number"


def _listed(names: Mapping[str, str]) -> str:
    shown = list(names)[:12]
    return ", ".join(shown) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
