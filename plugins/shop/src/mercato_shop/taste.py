"""Hidden tastes: what products are like, how popular they are, what users like, and how that drifts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercato_shop.ids import Indices
from mercato_shop.kinds import KINDS
from mercato_shop.plan import Plan

Array = NDArray[np.float64]

FACTORS = 16
MONTHS = 12
# A product is this much like its category and this much like nothing else; their squares sum to 1.
CATEGORY_WEIGHT, OWN_WEIGHT = 0.8, 0.6
# A user's taste starts near the sum of this many categories, with this much of a direction of its own.
FAVOURITES, OWN_TASTE = 2, 0.6
# Correlation of a user's taste with that of the month before.
MONTHLY_CORRELATION = 0.985
# The popularity of the product of rank r is proportional to (r + offset) ** -exponent.
ZIPF_EXPONENT, ZIPF_OFFSET = 0.9, 5.0


@dataclass(frozen=True)
class Items:
    """`factors` (products, 16) and `centres` (categories, 16) have rows of length 1; `popularity` sums to 1."""

    factors: Array
    centres: Array
    popularity: Array


def draw_items(plan: Plan, kind: Indices) -> Items:
    """What the products are like; `kind` is each product's category."""
    rng = plan.stream("items")
    centres = _unit(rng.standard_normal((len(KINDS), FACTORS)))
    own = _unit(rng.standard_normal((len(kind), FACTORS)))
    weight = (np.arange(len(kind)) + 1.0 + ZIPF_OFFSET) ** -ZIPF_EXPONENT
    popularity = rng.permutation(weight / weight.sum())
    return Items(_unit(CATEGORY_WEIGHT * centres[kind] + OWN_WEIGHT * own), centres, popularity)


def draw_tastes(rng: np.random.Generator, users: int, centres: Array) -> Array:
    """Tastes of some users, month by month: (users, 12, 16), rows of length 1."""
    liked = rng.integers(0, len(centres), (users, FAVOURITES))
    start = _unit(centres[liked].sum(axis=1)) + OWN_TASTE * _unit(rng.standard_normal((users, FACTORS)))
    tastes = np.empty((users, MONTHS, FACTORS))
    tastes[:, 0] = _unit(start)
    for month in range(1, MONTHS):
        step = _unit(rng.standard_normal((users, FACTORS)))
        drifted = MONTHLY_CORRELATION * tastes[:, month - 1] + np.sqrt(1 - MONTHLY_CORRELATION**2) * step
        tastes[:, month] = _unit(drifted)
    return tastes


def _unit(rows: Array) -> Array:
    """The rows, scaled to length 1."""
    scaled: Array = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def signals() -> dict[str, Any]:
    """How tastes and popularity were drawn."""
    return {
        "factors": FACTORS,
        "category_weight": CATEGORY_WEIGHT,
        "own_weight": OWN_WEIGHT,
        "favourites": FAVOURITES,
        "own_taste": OWN_TASTE,
        "monthly_correlation": MONTHLY_CORRELATION,
        "zipf_exponent": ZIPF_EXPONENT,
        "zipf_offset": ZIPF_OFFSET,
    }
