"""sales.parquet: weekly demand with known price elasticities, promotions and seasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mercato_shop.catalogue import Catalogue, middle_prices
from mercato_shop.ids import Indices, product_ids, row_ids
from mercato_shop.kinds import KINDS
from mercato_shop.plan import Plan
from mercato_shop.taste import Array

# Category to its own-price elasticity: 1 % more on the price changes units by this many per cent.
ELASTICITY: Mapping[str, float] = {
    "shoes": -1.6,
    "shirts": -1.9,
    "bags": -1.4,
    "mugs": -2.4,
    "lamps": -1.2,
    "watches": -0.9,
    "headphones": -1.8,
    "chairs": -1.1,
    "bottles": -2.2,
    "umbrellas": -0.7,
}
# Category to units in a week at its middle price, without promotion, season and rating.
UNITS: Mapping[str, float] = {
    "shoes": 28.0,
    "shirts": 45.0,
    "bags": 24.0,
    "mugs": 40.0,
    "lamps": 22.0,
    "watches": 18.0,
    "headphones": 30.0,
    "chairs": 16.0,
    "bottles": 38.0,
    "umbrellas": 26.0,
}
SEASONS = ("spring", "summer", "autumn", "winter")
# Category to the factor on units in each of the seasons.
SEASONAL: Mapping[str, tuple[float, ...]] = {
    "shoes": (1.2, 1.0, 1.1, 0.8),
    "shirts": (1.1, 1.4, 0.9, 0.7),
    "bags": (1.0, 1.2, 1.2, 0.8),
    "mugs": (0.9, 0.7, 1.1, 1.4),
    "lamps": (0.9, 0.8, 1.1, 1.3),
    "watches": (0.9, 0.9, 0.9, 1.4),
    "headphones": (0.9, 1.0, 1.1, 1.2),
    "chairs": (1.1, 1.0, 1.0, 0.9),
    "bottles": (1.1, 1.5, 0.8, 0.7),
    "umbrellas": (1.3, 0.9, 1.3, 0.7),
}
# In a promotion the price is cut further, and units are multiplied by this besides.
PROMOTION_SHARE, PROMOTION_LIFT = 0.18, 1.35
# Prices as shares of the list price, drawn evenly between these, in ordinary weeks and in promotions.
ORDINARY, PROMOTED = (0.82, 1.0), (0.62, 0.88)
# The mean rating of a product of quality 0, its rise with quality, and its deviation from week to week.
RATING, RATING_QUALITY, RATING_SPREAD = 3.9, 0.4, 0.1
# The logarithm of units rises by this with each star above 4, and varies so much by brand and by product.
RATING_EFFECT, BRAND_SPREAD, PRODUCT_SPREAD = 0.12, 0.15, 0.25
# Units are Poisson of a mean with gamma noise of this shape: variance = mean + mean ** 2 / shape.
GAMMA_SHAPE = 12.0
# Weeks of demand in stock, drawn evenly between these, and at least what is sold: sales follow demand alone.
STOCK = (1.5, 6.0)
MISSING = {"rating_mean": 0.08, "stock": 0.05, "category": 0.02}
# Each product is followed for so many weeks, which begin at random in the 52 from the first Monday of the year.
WEEKS, YEAR = 20, 52
FIRST_WEEK = np.datetime64("2025-01-06")


@dataclass(frozen=True)
class Shelf:
    """One row per product and week: the product, the week's number, prices in the shop's currency, what is known."""

    product: Indices
    week: Indices
    list_price: Array
    price: Array
    promotion: NDArray[np.bool_]
    season: Indices
    rating: Array


def draw_sales(plan: Plan, catalogue: Catalogue) -> pa.Table:
    """The table, sorted by week and product."""
    rng = plan.stream("sales")
    shelf = _shelf(rng, plan, catalogue)
    mean = _demand(rng, plan, catalogue, shelf)
    units = rng.poisson(mean * rng.gamma(GAMMA_SHAPE, 1 / GAMMA_SHAPE, len(mean)))
    stock = np.maximum(np.round(mean * rng.uniform(*STOCK, len(mean))), units).astype(np.int64)
    category = np.array(catalogue.category)[shelf.product]
    brand = np.array(catalogue.goods.brands)[catalogue.brand[shelf.product]]
    season = np.array([catalogue.goods.seasons[name] for name in SEASONS])[shelf.season]
    return pa.table(
        {
            "sale_id": row_ids("s", len(units)),
            "week": pa.array(FIRST_WEEK + 7 * shelf.week),
            "product_id": product_ids(shelf.product.tolist()),
            "category": pa.array(category.tolist(), pa.string(), mask=_missing(rng, "category", len(units))),
            "brand": brand.tolist(),
            "price": shelf.price,
            "list_price": shelf.list_price,
            "promotion": shelf.promotion,
            "season": season.tolist(),
            "rating_mean": pa.array(shelf.rating, mask=_missing(rng, "rating_mean", len(units))),
            "stock": pa.array(stock, mask=_missing(rng, "stock", len(units))),
            "units": units,
        }
    )


def season_of(weeks: Indices) -> Indices:
    """The season of weeks counted from the first: spring is March to May, and so on; an index into SEASONS."""
    month = (FIRST_WEEK + 7 * weeks).astype("datetime64[M]").astype(np.int64) % 12 + 1
    return (month // 3 + 3) % 4


def _shelf(rng: np.random.Generator, plan: Plan, catalogue: Catalogue) -> Shelf:
    sold = np.sort(rng.permutation(len(catalogue))[: plan.sold])
    begin = rng.integers(0, YEAR - WEEKS + 1, len(sold))
    week = (begin[:, None] + np.arange(WEEKS)).ravel()
    product = np.repeat(sold, WEEKS)
    order = np.lexsort((product, week))
    product, week = product[order], week[order]
    promotion = rng.random(len(product)) < PROMOTION_SHARE
    cut = np.where(promotion, rng.uniform(*PROMOTED, len(product)), rng.uniform(*ORDINARY, len(product)))
    rating = RATING + RATING_QUALITY * catalogue.quality[product] + RATING_SPREAD * rng.standard_normal(len(product))
    rating = np.clip(np.round(rating, 2), 1.0, 5.0)
    list_price = catalogue.price[product]
    return Shelf(product, week, list_price, np.round(list_price * cut, 2), promotion, season_of(week), rating)


def _demand(rng: np.random.Generator, plan: Plan, catalogue: Catalogue, shelf: Shelf) -> Array:
    """Units to expect in each row."""
    kind = catalogue.kind[shelf.product]
    brand = BRAND_SPREAD * rng.standard_normal(len(catalogue.goods.brands))
    own = PRODUCT_SPREAD * rng.standard_normal(len(catalogue))
    logarithm = (
        np.log(_by_kind(UNITS))[kind]
        + _by_kind(ELASTICITY)[kind] * np.log(shelf.price / middle_prices(plan.language)[kind])
        + np.log(PROMOTION_LIFT) * shelf.promotion
        + np.log(np.array([SEASONAL[key] for key in KINDS]))[kind, shelf.season]
        + RATING_EFFECT * (shelf.rating - 4.0)
        + (brand[catalogue.brand] + own)[shelf.product]
    )
    mean: Array = np.exp(logarithm)
    return mean


def _by_kind(values: Mapping[str, float]) -> Array:
    return np.array([values[kind] for kind in KINDS])


def _missing(rng: np.random.Generator, column: str, rows: int) -> NDArray[np.bool_]:
    return rng.random(rows) < MISSING[column]


def signals(plan: Plan) -> dict[str, Any]:
    """How demand was drawn; categories and seasons in the shop's language."""
    goods = plan.words.goods
    names = {kind: goods.kinds[kind].name for kind in KINDS}
    seasons = [goods.seasons[season] for season in SEASONS]
    return {
        "elasticity": {names[kind]: ELASTICITY[kind] for kind in KINDS},
        "units": {names[kind]: UNITS[kind] for kind in KINDS},
        "middle_price": dict(zip(names.values(), middle_prices(plan.language).tolist(), strict=True)),
        "seasonal": {names[kind]: dict(zip(seasons, SEASONAL[kind], strict=True)) for kind in KINDS},
        "promotion_share": PROMOTION_SHARE,
        "promotion_lift": PROMOTION_LIFT,
        "rating": RATING,
        "rating_quality": RATING_QUALITY,
        "rating_spread": RATING_SPREAD,
        "rating_effect": RATING_EFFECT,
        "brand_spread": BRAND_SPREAD,
        "product_spread": PRODUCT_SPREAD,
        "gamma_shape": GAMMA_SHAPE,
        "stock": list(STOCK),
        "missing": dict(MISSING),
        "weeks": WEEKS,
    }
