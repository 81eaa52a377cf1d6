"""Labelled pictures to learn from: of a table with a column of paths, or of a folder with a folder per label."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from mercato_training import Column, Data, DataError, Table, TableSchema, TrainContext
from mercato_vision.category import MAX_BYTES
from mercato_vision.facts import SIZES
from mercato_vision.pictures import BadPicture, Decoder, Pixels

PATH, LABEL, DIGEST = "image", "category", "digest"
# Paths are ids: no two rows share one, and nothing in them is masked.
SCHEMA = TableSchema("products", {PATH: Column("id"), LABEL: Column("label")})

AT_ONCE = 64
"""Pictures that are decoded together."""


def read_collection(data: Data) -> Table:
    """Paths, labels and digests of all pictures that are files of a size that is served. Raises DataError.

    Equal files have equal digests, so that held-out pictures are never among those that are fitted.
    """
    if _has_table(data.path):
        table = data.table(SCHEMA)
        folder = data.path.parent if data.path.is_file() else data.path
        paths = [inside(folder, name) for name in table[PATH].tolist()]
    else:
        images = data.images()
        paths = list(images.paths)
        table = Table("images", {LABEL: np.array(images.labels, object)}, len(paths))
    return _noted(data, table, paths)


def files_of(rows: Table) -> list[bytes]:
    """The pictures' files."""
    return [Path(path).read_bytes() for path in rows[PATH].tolist()]


def some(rows: Table, count: int) -> Table:
    """At most `count` of the rows, by the order of their digests: always the same ones, and no kind before another."""
    return rows.take(np.sort(np.argsort(rows[DIGEST].astype(str), kind="stable")[:count]))


def decoded(title: str, rows: Table, size: int, ctx: TrainContext) -> tuple[Table, torch.Tensor]:
    """The rows whose pictures can be decoded, and their pixels, uint8 (rows, size, size, 3). Raises DataError."""
    decoder = Decoder(size)
    starts = range(0, rows.rows, AT_ONCE)
    found: list[Pixels | BadPicture] = []
    for start in ctx.each(title, starts, len(starts)):
        found += decoder.decode(files_of(rows.take(np.arange(start, min(start + AT_ONCE, rows.rows)))))
    whole = np.array([not isinstance(picture, BadPicture) for picture in found])
    if not whole.any():
        raise DataError(f"{rows.name}: none of {rows.rows} pictures can be decoded: {found[0]}")
    if not whole.all():
        ctx.note(**{f"{title.replace(' ', '_')}_damaged": int((~whole).sum())})
        ctx.report.say(f"{title}: {(~whole).sum()} of {rows.rows} pictures are damaged and left out")
    pixels = np.stack([picture for picture in found if not isinstance(picture, BadPicture)])
    return rows.take(whole), torch.from_numpy(pixels)


def readable(rows: Table) -> tuple[Table, list[bytes]]:
    """The rows whose pictures can be decoded, and their files."""
    files = files_of(rows)
    whole = [not isinstance(found, BadPicture) for found in Decoder(SIZES[0]).decode(files)]
    return rows.take(np.array(whole)), [file for file, is_whole in zip(files, whole, strict=True) if is_whole]


def grouped(files: list[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """The files in their order, in groups of at most so many bytes, or of one file."""
    group: list[bytes] = []
    for file in files:
        if group and sum(map(len, group)) + len(file) > most_bytes:
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def inside(folder: Path, name: str) -> Path:
    """The file that a path of a table means. Raises DataError for one that leaves the table's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{SCHEMA.name}: column {PATH!r} holds a path that is not below the folder of the table")
    return folder / path


def _has_table(path: Path) -> bool:
    return path.is_file() or any((path / f"{SCHEMA.name}{suffix}").is_file() for suffix in (".parquet", ".csv"))


def _noted(data: Data, table: Table, paths: list[Path]) -> Table:
    """The table with digests, without the rows that have no file; kept for the record."""
    digests = np.array([_digest(path) for path in paths], object)
    there = np.array([digest != "" for digest in digests])
    if not there.any():
        raise DataError(f"{table.name}: none of {len(paths)} pictures is a file of 1 to {MAX_BYTES} bytes")
    columns = {PATH: np.array([str(path) for path in paths], object), LABEL: table[LABEL], DIGEST: digests}
    missing = {"no picture": int((~there).sum())} if not there.all() else {}
    found = Table(table.name, columns, table.read, {**table.dropped, **missing}).take(there)
    data.tables[table.name] = found
    facts = "\n".join(f"{digest} {label}" for digest, label in zip(found[DIGEST], found[LABEL], strict=True))
    pictures = hashlib.sha256(facts.encode()).hexdigest()
    data.digests["pictures"] = pictures
    data.digests.setdefault(table.name, pictures)
    return found


def _digest(path: Path) -> str:
    """SHA-256 of a file's content; empty for what is no file of a size that is served."""
    try:
        if not 0 < path.stat().st_size <= MAX_BYTES:
            return ""
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
