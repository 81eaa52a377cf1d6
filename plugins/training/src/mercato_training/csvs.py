"""Reading CSV files: their encoding, what parts their columns, and where a row is wrong."""

import codecs
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from mercato_training.errors import DataError
from mercato_training.texts import counted

HEAD = 1 << 16
"""Bytes of a file that are looked at for its encoding and its header."""

_QUOTED = re.compile('"[^"]*"')


def column_names(path: Path, encoding: str) -> list[str]:
    """The names in the header. Raises DataError."""
    with _readable(path, encoding, _BadRow()):
        options = pyarrow.csv.ConvertOptions(strings_can_be_null=False)
        # Wrong rows are for `read` to tell, which knows their numbers.
        parsing = _parsing(path, encoding, lambda row: "skip")
        with pyarrow.csv.open_csv(path, _reading(encoding), parsing, options) as reader:
            return list(reader.schema.names)


def read(path: Path, columns: list[str], encoding: str) -> pa.Table:
    """These columns as strings. Raises DataError, which names the first row that has too many or too few values."""
    bad = _BadRow()
    with _readable(path, encoding, bad):
        try:
            return _read(path, columns, encoding, bad, use_threads=True)
        except pa.ArrowInvalid:
            if not bad.expected:
                raise
            # Only one thread alone knows the number of the row.
            return _read(path, columns, encoding, bad, use_threads=False)


class _BadRow:
    """What pyarrow says of a row with too many or too few values; its text is not kept."""

    def __init__(self) -> None:
        self.expected = 0
        self.got = 0
        self.number: int | None = None

    def __call__(self, row: Any) -> str:
        self.expected, self.got, self.number = row.expected_columns, row.actual_columns, row.number
        return "error"

    def __str__(self) -> str:
        where = "a row" if self.number is None else f"row {self.number - 1}"  # pyarrow counts the header
        return (
            f"{where}: expected {counted(self.expected, 'column')}, got {self.got}; "
            "a value that has a comma, a quote or a line break stands in double quotes"
        )


def _read(path: Path, columns: list[str], encoding: str, bad: _BadRow, *, use_threads: bool) -> pa.Table:
    # Which numbers and dates are meant is decided where errors can be told by row.
    types = dict.fromkeys(columns, pa.string())
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns, strings_can_be_null=False)
    return pyarrow.csv.read_csv(path, _reading(encoding, use_threads), _parsing(path, encoding, bad), options)


def _reading(encoding: str, use_threads: bool = True) -> pyarrow.csv.ReadOptions:
    return pyarrow.csv.ReadOptions(encoding=encoding, use_threads=use_threads)


def _parsing(path: Path, encoding: str, bad: Callable[[Any], str]) -> pyarrow.csv.ParseOptions:
    delimiter = _delimiter(_header(path, encoding))
    return pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=bad)


def _delimiter(header: str) -> str:
    """What parts the columns: a comma, unless there are more semicolons or tabs."""
    return max(",;\t", key=_QUOTED.sub("", header).count)


def _header(path: Path, encoding: str) -> str:
    """The first line that is not empty. Raises UnicodeError for what is no text of the encoding."""
    with path.open("rb") as file:
        head = codecs.getincrementaldecoder(encoding)().decode(file.read(HEAD))
    if "\0" in head:
        raise UnicodeError
    return next((line for line in head.splitlines() if line.strip()), "")


@contextmanager
def _readable(path: Path, encoding: str, bad: _BadRow) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        why = _why(str(error), encoding, bad)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "it is damaged"
    except UnicodeError:
        why = _no_text(encoding)
    except LookupError:
        why = f"there is no encoding {encoding!r}, expected one such as utf-8, gb18030 or utf-16"
    else:
        return
    raise DataError(f"--data: {path.name} cannot be read: {why}")


def _why(said: str, encoding: str, bad: _BadRow) -> str:
    """In our words, for pyarrow quotes rows."""
    if bad.expected:
        return str(bad)
    if "invalid UTF8" in said:
        return _no_text(encoding)
    if "Empty CSV" in said:
        return "it is empty"
    if "straddling" in said:
        return "a row has more than 1 MiB; is there a double quote without its second one?"
    return "it is no CSV file, or damaged"


def _no_text(encoding: str) -> str:
    return f"it is not {encoding} text; name its encoding, for instance --encoding gb18030 or --encoding utf-16"
