"""Reading files: CSV and Parquet as columns, and folders of images, within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mercato_training.errors import DataError

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
        raise DataError(f"--data: there is no file or folder {data.name!r}")
    found = [data / f"{name}{suffix}" for suffix in _SUFFIXES if (data / f"{name}{suffix}").is_file()]
    if len(found) != 1:
        got = "both are there" if found else "neither is there"
        raise DataError(f"--data: expected {name}.parquet or {name}.csv in the folder {data.name!r}; {got}")
    return found[0]


def column_names(path: Path, encoding: str) -> list[str]:
    """The columns of a file. Raises DataError."""
    _check_size(path)
    try:
        if path.suffix == ".parquet":
            return list(pyarrow.parquet.read_schema(path).names)
        with pyarrow.csv.open_csv(path, _csv_reading(encoding), convert_options=_as_strings()) as reader:
            return list(reader.schema.names)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, LookupError, UnicodeError) as error:
        raise _unreadable(path, error, encoding) from None


def read_columns(path: Path, wanted: Mapping[str, str], encoding: str) -> pa.Table:
    """The columns in `wanted`, which maps the file's names to ours; those of CSV files come as strings.

    Raises DataError.
    """
    _check_size(path)
    try:
        if path.suffix == ".parquet":
            found = pyarrow.parquet.read_table(path, columns=list(wanted))
        else:
            options = _as_strings(list(wanted))
            found = pyarrow.csv.read_csv(path, _csv_reading(encoding), _CSV_PARSING, options)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, LookupError, UnicodeError) as error:
        raise _unreadable(path, error, encoding) from None
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
    if path.suffix not in _SUFFIXES:
        raise DataError(f"--data: {path.name!r} is no data file; expected {' or '.join(_SUFFIXES)}")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"--data: {path.name!r} has more than {MAX_BYTES} bytes")


_CSV_PARSING = pyarrow.csv.ParseOptions(newlines_in_values=True)


def _csv_reading(encoding: str) -> pyarrow.csv.ReadOptions:
    return pyarrow.csv.ReadOptions(encoding=encoding)


def _as_strings(columns: list[str] | None = None) -> pyarrow.csv.ConvertOptions:
    # Which numbers and dates are meant is decided where errors can be told by row.
    types = {name: pa.string() for name in columns or ()}
    return pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns, strings_can_be_null=False)


def _unreadable(path: Path, error: Exception, encoding: str) -> DataError:
    why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if path.suffix == ".csv" and ("invalid UTF8" in why or "codec" in why):
        why = f"it is not {encoding}; name its encoding, for instance --encoding gb18030"
    return DataError(f"--data: {path.name} cannot be read: {why}")
