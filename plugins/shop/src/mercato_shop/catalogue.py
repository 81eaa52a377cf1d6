"""products.parquet: what the shop sells, with the hidden quality that ratings and sales follow."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mercato_shop.ids import Indices, product_ids
from mercato_shop.kinds import COLOURS, KINDS, PRICES
from mercato_shop.plan import Plan
from mercato_shop.words.shape import Goods, Item, Kind
from mercato_shop.writing import Dice

# Prices of one category spread by this standard deviation of their logarithm.
PRICE_SPREAD = 0.35
# Language to currency, and what a US dollar is worth in it here.
CURRENCIES: Mapping[str, tuple[str, float]] = {"en": ("USD", 1.0), "zh": ("CNY", 7.0)}


@dataclass(frozen=True)
class Catalogue:
    """All products as arrays of one length: indices into the words, prices, and qualities (mean 0, deviation 1)."""

    goods: Goods
    kind: Indices
    item: Indices
    brand: Indices
    series: Indices
    colour: Indices
    material: Indices
    price: NDArray[np.float64]
    quality: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kind)

    @cached_property
    def slots(self) -> list[dict[str, str]]:
        """Per product, the words that stand for it in a text."""
        return [self._slots(product) for product in range(len(self))]

    @property
    def category(self) -> list[str]:
        """Per product, its category in the shop's language."""
        return [self._kind(product).name for product in range(len(self))]

    def _kind(self, product: int) -> Kind:
        return self.goods.kinds[KINDS[self.kind[product]]]

    def _slots(self, product: int) -> dict[str, str]:
        kind = self._kind(product)
        item: Item = kind.items[self.item[product]]
        words = {
            "title": item.title,
            "item": item.noun,
            "this": kind.this.format(noun=item.noun),
            "alias": item.alias,
            "brand": self.goods.brands[self.brand[product]],
            "series": self.goods.series[self.series[product]],
            "colour": self.goods.colours[tuple(COLOURS)[self.colour[product]]],
            "material": kind.materials[self.material[product]],
        }
        return {**words, "name": self.goods.name.format_map(words)}

    def describe(self, product: int, dice: Dice) -> str:
        """Two or three sentences about a product."""
        slots, kind = self.slots[product], self._kind(product)
        feature = dice.below(len(kind.features))
        other = (feature + 1 + dice.below(len(kind.features) - 1)) % len(kind.features)
        words = {"feature": kind.features[feature], "other": kind.features[other], "use": dice.pick(kind.uses)}
        capitals = {"Use": _capital(words["use"]), "Title": _capital(slots["title"])}
        return dice.pick(self.goods.descriptions).format_map({**slots, **words, **capitals})


def draw_catalogue(plan: Plan) -> Catalogue:
    """The products of a shop."""
    rng, goods, count = plan.stream("catalogue"), plan.words.goods, plan.products
    kind = rng.permutation(np.arange(count) % len(KINDS))
    items = np.array([len(goods.kinds[key].items) for key in KINDS])
    materials = np.array([len(goods.kinds[key].materials) for key in KINDS])
    return Catalogue(
        goods=goods,
        kind=kind,
        item=rng.integers(0, items[kind]),
        brand=rng.integers(0, len(goods.brands), count),
        series=rng.integers(0, len(goods.series), count),
        colour=rng.integers(0, len(COLOURS), count),
        material=rng.integers(0, materials[kind]),
        price=_prices(rng, plan.language, kind),
        quality=rng.standard_normal(count),
    )


def product_table(plan: Plan, catalogue: Catalogue) -> pa.Table:
    """The table, one row per product, in the order of the ids. Prices are in the currency of the language."""
    dice, ids, slots = Dice(plan.stream("descriptions")), product_ids(range(len(catalogue))), catalogue.slots
    return pa.table(
        {
            "product_id": ids,
            "name": [words["name"] for words in slots],
            "category": catalogue.category,
            "brand": [words["brand"] for words in slots],
            "colour": [words["colour"] for words in slots],
            "material": [words["material"] for words in slots],
            "price": catalogue.price,
            "description": [catalogue.describe(product, dice) for product in range(len(catalogue))],
            "image": [f"images/{name}.png" for name in ids],
        }
    )


def middle_prices(language: str) -> NDArray[np.float64]:
    """The middle of each category's prices, in the currency of the language."""
    return np.array([PRICES[kind] for kind in KINDS]) * CURRENCIES[language][1]


def _prices(rng: np.random.Generator, language: str, kind: Indices) -> NDArray[np.float64]:
    """Prices end in .99 in dollars, and in 9 in yuan."""
    price = middle_prices(language)[kind] * np.exp(PRICE_SPREAD * rng.standard_normal(len(kind)))
    return np.maximum(np.round(price / 10) * 10 - 1, 9.0) if language == "zh" else np.floor(price) + 0.99


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
