"""queries.parquet and queries/*.png: what people look for in words, by a picture or by both, and what answers it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mercato_shop.catalogue import Catalogue
from mercato_shop.ids import Indices, product_ids, row_ids
from mercato_shop.kinds import COLOURS, KINDS
from mercato_shop.pictures import draw_picture
from mercato_shop.plan import Plan
from mercato_shop.words.shape import QueryWords
from mercato_shop.writing import Dice

# This share of the words of a query are others than those of the catalogue.
SYNONYMS = 0.5
TEXT, IMAGE, BOTH = "text", "image", "both"
# Ways of asking, repeated over the rows, each with what is asked for; what a picture shows is its category and colour.
WAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (TEXT, ("item", "colour")),
    (TEXT, ("kind", "colour")),
    (IMAGE, ("kind", "colour")),
    (TEXT, ("item", "material")),
    (BOTH, ("kind", "colour", "material")),
    (TEXT, ("item", "colour")),
    (TEXT, ("item",)),
    (IMAGE, ("kind", "colour")),
    (TEXT, ("item", "colour")),
    (BOTH, ("item", "colour")),
)


@dataclass(frozen=True)
class Queries:
    """The table, and the product that each pictured row shows: row number to product."""

    table: pa.Table
    pictured: Mapping[int, int]


def draw_queries(plan: Plan, catalogue: Catalogue) -> Queries:
    """Each row asks for what one product is, drawn at random, and lists all products that are the same in it."""
    rng = plan.stream("queries")
    sources = rng.integers(0, len(catalogue), plan.queries)
    asking = _Asking(catalogue, plan.words.queries, Dice(rng))
    ways = [WAYS[row % len(WAYS)] for row in range(plan.queries)]
    ids = row_ids("q", plan.queries)
    pictured = {row: int(sources[row]) for row, (way, _) in enumerate(ways) if way != TEXT}
    wanted = [asking.wanted(int(source), asked) for source, (_, asked) in zip(sources, ways, strict=True)]
    table = pa.table(
        {
            "query_id": ids,
            "text": pa.array(
                [asking.text(int(source), *way) for source, way in zip(sources, ways, strict=True)], pa.string()
            ),
            "image": pa.array(
                [f"queries/{name}.png" if row in pictured else None for row, name in enumerate(ids)], pa.string()
            ),
            **{name: pa.array([each.get(name) for each in wanted], pa.string()) for name in _WANTED.values()},
            "products": [
                product_ids(asking.answers(int(source), asked))
                for source, (_, asked) in zip(sources, ways, strict=True)
            ],
        }
    )
    return Queries(table, pictured)


def write_query_picture(plan: Plan, catalogue: Catalogue, row: int, product: int, folder: Path) -> int:
    """Write what the query of this row shows, the product seen anew, and return its size in bytes."""
    path = folder / f"{row_ids('q', row + 1)[row]}.png"
    draw_picture(plan, catalogue, product, view=f"query/{row}").save(path, compress_level=6)
    return path.stat().st_size


def signals() -> dict[str, Any]:
    """How queries are made."""
    shares = {way: sum(each == way for each, _ in WAYS) / len(WAYS) for way in (TEXT, IMAGE, BOTH)}
    return {"synonyms": SYNONYMS, "ways": shares}


_WANTED = {"kind": "category", "item": "item", "colour": "colour", "material": "material"}


class _Asking:
    """What is asked for of a product, in words and as the set of all products that have it."""

    def __init__(self, catalogue: Catalogue, words: QueryWords, dice: Dice) -> None:
        self._catalogue = catalogue
        self._words = words
        self._dice = dice
        self._values = _values(catalogue)

    def wanted(self, product: int, asked: tuple[str, ...]) -> dict[str, str]:
        """By column, the catalogue's own words."""
        slots = self._catalogue.slots[product]
        own = {"category": self._catalogue.category[product], "item": slots["title"]}
        columns = dict.fromkeys(("category", *(_WANTED[name] for name in asked)))
        return {column: own.get(column) or slots[column] for column in columns}

    def answers(self, product: int, asked: tuple[str, ...]) -> Indices:
        """All products that are equal to this one in what is asked for, in order."""
        same = [self._values[name] == self._values[name][product] for name in asked]
        return np.flatnonzero(np.logical_and.reduce(same))

    def text(self, product: int, way: str, asked: tuple[str, ...]) -> str | None:
        """Of a query with a picture only what the picture does not show."""
        if way == IMAGE:
            return None
        told = tuple(name for name in asked if way == TEXT or name in ("item", "material"))
        pattern = self._dice.pick(self._words.patterns["+".join(told) if way == TEXT else f"alike+{told[0]}"])
        return pattern.format(**{name: self._word(product, name) for name in told})

    def _word(self, product: int, name: str) -> str:
        """The catalogue's word, or another one for it."""
        slots, is_other = self._catalogue.slots[product], self._dice.chance(SYNONYMS)
        if name == "item":
            return slots["alias" if is_other else "title"]
        if name == "material":
            return slots["material"]
        if name == "colour":
            key = tuple(COLOURS)[self._catalogue.colour[product]]
            return self._dice.pick(self._words.colours[key]) if is_other else slots["colour"]
        key = KINDS[self._catalogue.kind[product]]
        return self._dice.pick(self._words.kinds[key]) if is_other else self._catalogue.category[product]


def _values(catalogue: Catalogue) -> dict[str, NDArray[np.int64]]:
    """Per product a number for each thing that can be asked for; items and materials differ between categories."""
    most = 1 + int(max(catalogue.item.max(), catalogue.material.max()))
    return {
        "kind": catalogue.kind,
        "colour": catalogue.colour,
        "item": catalogue.kind * most + catalogue.item,
        "material": catalogue.kind * most + catalogue.material,
    }
