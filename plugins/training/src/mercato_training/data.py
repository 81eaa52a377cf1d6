"""What `--data` names: a file, or a folder with a file per table or a folder of pictures per label."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mercato_training import reading, splits
from mercato_training.cleaning import Cleaning
from mercato_training.errors import DataError
from mercato_training.hashing import UserHash
from mercato_training.parsing import kind_of
from mercato_training.people import point_to_people
from mercato_training.reading import Images
from mercato_training.schema import Kind, TableSchema
from mercato_training.table import Parts, Table
from mercato_training.texts import listed


@dataclass
class Data:
    """Reads tables and pictures, cleaned; keeps what it read for the record.

    `renames` maps the file's column names to those that the model asks for. With `user_hash` people's ids are hashed.
    `people` says which columns of such ids were asked for, and whether they were there.
    `is_whole` has `held_out` give every row: the data is a test set of its own.
    """

    path: Path
    renames: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    user_hash: UserHash | None = None
    is_whole: bool = False
    tables: dict[str, Table] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    people: dict[str, bool] = field(default_factory=dict)
    _kept: dict[str, pa.Table] = field(default_factory=dict, repr=False)

    def table(self, schema: TableSchema) -> Table:
        """The table that the schema asks for, validated and cleaned. Raises DataError."""
        path = reading.table_file(self.path, schema.name)
        wanted = self._wanted(path, schema)
        whole = self._kept.pop(schema.name, None)
        found = whole.select(list(wanted.values())) if whole else reading.read_columns(path, wanted, self.encoding)
        self._note_people(schema, found)
        table = Cleaning(schema, found, path.name, self.user_hash).run()
        self._note(schema.name, path, table)
        return table

    def kinds(self, name: str) -> dict[str, Kind]:
        """The columns of a table under the names that the model sees, and what each looks like.

        That is a `number`, a `time`, a `category` or, of numbers that point to people, a `user`. Raises DataError.
        """
        path = reading.table_file(self.path, name)
        names = self._names(path)
        if len(names) > reading.MAX_COLUMNS:
            raise DataError(f"{path.name}: {len(names)} columns, expected at most {reading.MAX_COLUMNS}")
        found = reading.read_columns(path, names, self.encoding)
        self._kept[name] = found
        return {column: _kind(found.column(column)) for column in found.column_names}

    def parts(self, table: Table, *, by: str | tuple[str, ...] = (), after: str = "") -> Parts:
        """The table in three parts: rows that are equal in the columns `by` (all columns when not given) together.

        With `after`, a column of times, the latest rows are held out. Raises DataError when a part would be empty.
        """
        self.check_people()
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

    @property
    def are_people_hashed(self) -> bool:
        """Whether there were ids of people, and all that was read of them is hashed."""
        return self.user_hash is not None and any(self.people.values())

    def check_people(self) -> None:
        """Raises DataError where ids of people are to be hashed and none was read."""
        if self.user_hash is None or self.are_people_hashed:
            return
        if not self.people:
            raise DataError("--hash-users: the model reads no ids of people; leave it out")
        name = next(iter(self.people))
        raise DataError(
            f"--hash-users: the data has no column {name!r} to hash; --rename THEIRS={name} takes one of another name; "
            "leave it out where the data has no ids of people"
        )

    @property
    def identity(self) -> str:
        """SHA-256, hexadecimal, over the files that were read, how they were, and the rows that came of it."""
        facts = [self.digests, self.renames, self.encoding, self.user_hash is not None]
        facts += [[name, table.digest] for name, table in self.tables.items()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()

    def _wanted(self, path: Path, schema: TableSchema) -> dict[str, str]:
        """The file's names of the columns to read, and ours. Raises DataError for one that is missing."""
        there = {ours: theirs for theirs, ours in self._names(path).items()}
        needed = [name for name, column in schema.columns.items() if not column.optional]
        missing = [name for name in (*needed, *schema.key) if name not in there]
        if missing:
            raise DataError(
                f"{path.name}: column {missing[0]!r} is missing; there are {listed(there)}; "
                f"--rename THEIRS={missing[0]} takes one of another name"
            )
        return {there[name]: name for name in dict.fromkeys((*schema.columns, *schema.key)) if name in there}

    def _names(self, path: Path) -> dict[str, str]:
        """From the file's names of its columns to those that the model sees. Raises DataError for wrong renames."""
        there = reading.column_names(path, self.encoding)
        for theirs, ours in self.renames.items():
            if theirs not in there and not self._is_elsewhere(theirs):
                raise DataError(
                    f"--rename {theirs}={ours}: {path.name} has no column {theirs!r}; it has {listed(there)}"
                )
        names = {theirs: self.renames.get(theirs, theirs) for theirs in there}
        seen = list(names.values())
        if twice := [ours for ours in self.renames.values() if seen.count(ours) > 1]:
            raise DataError(f"--rename: {path.name} would have two columns {twice[0]!r}; give each another name")
        return names

    def _is_elsewhere(self, column: str) -> bool:
        """Whether another table of the folder has the column: one option is for all of them."""
        if self.path.is_file():
            return False
        for path in reading.table_files(self.path):
            with contextlib.suppress(DataError):
                if column in reading.column_names(path, self.encoding):
                    return True
        return False

    def _note_people(self, schema: TableSchema, found: pa.Table) -> None:
        for name, column in schema.columns.items():
            if column.kind == "user":
                self.people[name] = self.people.get(name, False) or name in found.column_names

    def _note(self, name: str, path: Path, table: Table) -> None:
        self.tables[name] = table
        with path.open("rb") as file:
            self.digests[name] = hashlib.file_digest(file, "sha256").hexdigest()


def _kind(values: pa.ChunkedArray) -> Kind:
    """Numbers that point to people are no quantities."""
    found = kind_of(values)
    return "user" if found == "number" and point_to_people(values) else found
