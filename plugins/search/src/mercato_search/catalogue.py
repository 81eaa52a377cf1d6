"""The data that search.products is trained and judged on: products with texts and pictures, and queries."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_training import Column, Data, DataError, Table, TableSchema
from mercato_vision.category import MAX_BYTES

Array = npt.NDArray[Any]

ID, NAME, CATEGORY, DESCRIPTION, PICTURE = "product_id", "name", "category", "description", "image"
SCHEMA = TableSchema(
    "products",
    {
        ID: Column("id"),
        NAME: Column("text"),
        CATEGORY: Column("text", optional=True),
        DESCRIPTION: Column("text", optional=True),
        PICTURE: Column("key", optional=True),
    },
)
WORDS, ANSWERS = "text", "products"
QUERIES = TableSchema(
    "queries",
    {WORDS: Column("text", optional=True), PICTURE: Column("key", optional=True), ANSWERS: Column("keys")},
)
TITLES = 500
"""Names that stand in for queries where there are none."""


@dataclass(frozen=True)
class Queries:
    """What is asked and which products answer it: texts, "" for none, files of pictures, b"" for none, sets of rows."""

    texts: list[str]
    pictures: list[bytes]
    answers: list[frozenset[int]]
    is_titles: bool = False

    def take(self, rows: Array) -> "Queries":
        """Those of these numbers."""
        texts = [self.texts[row] for row in rows]
        return Queries(texts, [self.pictures[row] for row in rows], [self.answers[row] for row in rows], self.is_titles)

    @property
    def groups(self) -> dict[str, Array]:
        """Rows by what is given: `text`, `image` or `both`."""
        has_text = np.array([bool(text) for text in self.texts])
        has_picture = np.array([bool(picture) for picture in self.pictures])
        masks = {"text": has_text & ~has_picture, "image": ~has_text & has_picture, "both": has_text & has_picture}
        return {name: np.flatnonzero(mask) for name, mask in masks.items() if mask.any()}


def briefs(table: Table) -> list[str]:
    """Name and category of each product: what an encoder reads best."""
    return _joined(table, (NAME, CATEGORY))


def texts(table: Table) -> list[str]:
    """Everything that is said of each product."""
    return _joined(table, (NAME, CATEGORY, DESCRIPTION))


def pictures(data: Data, table: Table) -> list[bytes]:
    """The file of each product's picture, b"" for none. Raises DataError for a path that leaves the folder."""
    return _files(data, table, SCHEMA.name)


def read_queries(data: Data, products: Table) -> Queries:
    """The table `queries` where the data has one; else names of products, each answered by its product."""
    places = {name: row for row, name in enumerate(products[ID].tolist())}
    if not data.has(QUERIES.name):
        rows = np.random.default_rng(0).permutation(products.rows)[:TITLES]
        return Queries(products[NAME][rows].tolist(), [b""] * len(rows), [frozenset({int(r)}) for r in rows], True)
    table = data.table(QUERIES)
    words = table[WORDS].tolist() if WORDS in table else [""] * table.rows
    answers = [frozenset(places[name] for name in names if name in places) for names in table[ANSWERS].tolist()]
    found = Queries(words, _files(data, table, QUERIES.name), answers)
    usable = [row for row, known in enumerate(answers) if known and (words[row] or found.pictures[row])]
    if not usable:
        raise DataError(f"{QUERIES.name}: of {table.rows} queries none has a text or a picture and a known product")
    return found.take(np.array(usable))


def _joined(table: Table, columns: tuple[str, ...]) -> list[str]:
    parts = [table[column].tolist() for column in columns if column in table]
    return ["\n".join(filter(None, row)) for row in zip(*parts, strict=True)]


def _files(data: Data, table: Table, name: str) -> list[bytes]:
    folder = data.path if data.path.is_dir() else data.path.parent
    paths = table[PICTURE].tolist() if PICTURE in table else [None] * table.rows
    return [b"" if path is None else _file(folder, path, name) for path in paths]


def _file(folder: Path, name: str, table: str) -> bytes:
    """A file of a size that is served; b"" for another, or none."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{table}: column {PICTURE!r} holds a path that is not below the folder of the table")
    try:
        return (folder / path).read_bytes() if (folder / path).stat().st_size <= MAX_BYTES else b""
    except OSError:
        return b""
