"""Reading files: CSV and Parquet as columns, and folders of images, within bounds.

What pyarrow says of a file it cannot read may quote a row of it, so none of its texts reaches people.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from mercato_training import csvs
from mercato_training.errors import DataError
from mercato_training.texts import listed

MAX_BYTES = 16 << 30
"""Bytes of one file of data."""

MAX_ROWS = 50_000_000
"""Rows of one table."""

MAX_COLUMNS = 4096
"""Columns of one table."""

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Images:
    """The pictures of a folder with one folder per label: their paths and labels, in a fixed order."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]


def table_file(data: Path, name: str) -> Path:
    """The file of a table: `data` itself, or `<name>.parquet` or `<name>.csv` in it. Raises DataError."""
    if data.is_file():
        return data
    if not data.is_dir():
        if data.exists():
            raise DataError(f"--data: {data.name!r} is neither a file nor a folder")
        raise DataError(f"--data: there is no file or folder {data.name!r}")
    found = [path for path in table_files(data) if path.stem == name]
    if len(found) != 1:
        got = "both are there" if found else "neither is there"
        raise DataError(f"--data: expected {name}.parquet or {name}.csv in the folder {data.name!r}; {got}")
    return found[0]


def table_files(folder: Path) -> list[Path]:
    """Every file of a folder that may hold a table."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def column_names(path: Path, encoding: str) -> list[str]:
    """The columns of a file. Raises DataError."""
    _check_size(path)
    names = csvs.column_names(path, encoding) if _is_csv(path) else _parquet(path, None).names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path.name}: column {listed(twice[:1])} is there twice; give each column a name of its own")
    return names


def read_columns(path: Path, wanted: Mapping[str, str], encoding: str) -> pa.Table:
    """The columns in `wanted`, which maps the file's names to ours; those of CSV files come as strings.

    Raises DataError.
    """
    _check_size(path)
    found = csvs.read(path, list(wanted), encoding) if _is_csv(path) else _parquet(path, list(wanted))
    if found.num_rows > MAX_ROWS:
        raise DataError(f"{path.name}: {found.num_rows} rows, expected at most {MAX_ROWS}")
    return found.rename_columns([wanted[name] for name in found.column_names])


def read_images(folder: Path) -> Images:
    """Every picture below `folder/<label>/`. Raises DataError for fewer than two labels, or one without a picture."""
    if not folder.is_dir():
        raise DataError(f"--data: expected a folder with one folder of pictures per label, got {folder.name!r}")
    labels = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(labels) < 2:
        raise DataError(f"--data: {folder.name!r} has {len(labels)} folders of labels, expected at least 2")
    found = [(path, label) for label in labels for path in _pictures(folder / label)]
    return Images(tuple(path for path, _ in found), tuple(label for _, label in found))


def _pictures(folder: Path) -> list[Path]:
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
    if not pictures:
        raise DataError(f"--data: the folder of label {folder.name!r} has no picture ({', '.join(IMAGES)})")
    return pictures


def _check_size(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise DataError(f"--data: {path.name!r} is no data file; expected {' or '.join(_SUFFIXES)}")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"--data: {path.name!r} has more than {MAX_BYTES} bytes")


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _parquet(path: Path, columns: list[str] | None) -> Any:
    """The columns of a Parquet file; its schema where none are asked for. Raises DataError."""
    try:
        return (
            pyarrow.parquet.read_schema(path) if columns is None else pyarrow.parquet.read_table(path, columns=columns)
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "it is damaged"
    except pa.ArrowException:
        why = "it is no Parquet file, or damaged"
    raise DataError(f"--data: {path.name} cannot be read: {why}")
