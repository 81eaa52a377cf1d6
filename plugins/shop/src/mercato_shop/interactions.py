"""interactions.parquet: who looked at, put aside and bought what, drawn from hidden tastes and popularity."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mercato_shop.ids import Indices, product_ids, timestamps, user_ids
from mercato_shop.plan import DAYS, START, Plan
from mercato_shop.taste import MONTHS, Array, Items, draw_tastes

# Users drawn at a time: this, and not the number of users, decides how much memory is needed.
CHUNK = 512
# Interactions per user; never more than a third of the products, and no product twice.
FEWEST, MOST = 30, 40
# A user chooses among so many products at most, shown with a chance proportional to a power of their popularity; the
# rest of the popularity enters the odds. The power keeps the same few from filling every shelf.
SHOWN, SHELF_POWER = 400, 0.5
# The log odds of a choice are this times the cosine of product and taste.
STRENGTH = 9.0
# An interaction is a purchase with probability sigmoid(BASE + SLOPE * cosine), else a cart in this share of the rest.
PURCHASE_BASE, PURCHASE_SLOPE, CART_SHARE = -3.0, 2.0, 0.18
EVENTS = ("view", "cart", "purchase")
# Relative traffic of each hour of the day, UTC.
HOURS = (2, 1, 1, 1, 1, 2, 3, 5, 6, 7, 7, 8, 9, 8, 7, 7, 7, 8, 10, 12, 13, 12, 8, 5)


@dataclass(frozen=True)
class Visits:
    """Interactions as arrays of one length, sorted by user and time. `time` is in seconds since 1970, UTC.

    `event` is an index into EVENTS; `fit` is the cosine of the product and the user's taste in that month.
    """

    user: Indices
    product: Indices
    event: Indices
    time: Indices
    fit: Array

    def chosen(self, which: NDArray[np.bool_]) -> "Visits":
        """Those of them for which `which` holds."""
        return Visits(self.user[which], self.product[which], self.event[which], self.time[which], self.fit[which])

    @property
    def purchases(self) -> "Visits":
        """Those that ended in a purchase."""
        return self.chosen(self.event == EVENTS.index("purchase"))


def draw_visits(plan: Plan, items: Items) -> Iterator[Visits]:
    """All interactions, some hundred users at a time."""
    for start in range(0, plan.users, CHUNK):
        yield _draw(plan, items, start, min(CHUNK, plan.users - start))


def join_visits(parts: list[Visits]) -> Visits:
    """Several as one."""
    columns = ("user", "product", "event", "time", "fit")
    return Visits(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


def interaction_table(visits: Visits) -> pa.Table:
    """The table of some visits, one row per user and product."""
    return pa.table(
        {
            "user_id": user_ids(visits.user.tolist()),
            "product_id": product_ids(visits.product.tolist()),
            "event": pa.array(EVENTS).take(pa.array(visits.event)),
            "time": timestamps(visits.time),
        }
    )


def tastes_of(plan: Plan, items: Items, start: int, users: int) -> Array:
    """The tastes of the users of one chunk, which begins at user `start`: (users, 12, 16)."""
    return draw_tastes(plan.stream(f"tastes/{start}"), users, items.centres)


def _draw(plan: Plan, items: Items, start: int, users: int) -> Visits:
    rng = plan.stream(f"interactions/{start}")
    seconds, month = _times(rng, users, _most(plan))
    shown, odds, fits = _shelf(rng, items, tastes_of(plan, items, start, users))
    rows, columns, places = _choices(rng, month, odds)
    fit = fits[rows, places, month[rows, columns]]
    return Visits(
        user=start + rows,
        product=shown[rows, places],
        event=_events(rng, rows, fit),
        time=START.astype(np.int64) + seconds[rows, columns],
        fit=fit,
    )


def _most(plan: Plan) -> tuple[int, int]:
    """The fewest and most interactions of a user."""
    third = max(plan.products // 3, 1)
    return min(FEWEST, third), min(MOST, third)


def _times(rng: np.random.Generator, users: int, bounds: tuple[int, int]) -> tuple[Indices, Indices]:
    """Seconds into the year, sorted per user, and the month; month 12 marks places that stay empty."""
    wanted = rng.integers(bounds[0], bounds[1] + 1, users)
    share = np.array(HOURS) / sum(HOURS)
    hour = np.searchsorted(np.cumsum(share), rng.random((users, bounds[1])))
    seconds = (rng.integers(0, DAYS, hour.shape) * 24 + np.minimum(hour, 23)) * 3_600
    seconds += rng.integers(0, 3_600, hour.shape)
    seconds[np.arange(bounds[1]) >= wanted[:, None]] = DAYS * 86_400
    seconds.sort(axis=1)
    return seconds, seconds * MONTHS // (DAYS * 86_400)


def _shelf(rng: np.random.Generator, items: Items, tastes: Array) -> tuple[Indices, Array, Array]:
    """Per user the products shown, the log odds of each in each month, and the cosines: (users, shown, 12)."""
    shown, weight = _shown(rng, items.popularity, len(tastes))
    fits = items.factors[shown] @ tastes.transpose(0, 2, 1)
    return shown, STRENGTH * fits + weight[:, :, None], fits


def _shown(rng: np.random.Generator, popularity: Array, users: int) -> tuple[Indices, Array]:
    """Products and the popularity's part of their log odds, both (users, shown); minus infinity for duplicates."""
    if len(popularity) <= SHOWN:
        shown = np.broadcast_to(np.arange(len(popularity)), (users, len(popularity)))
        return shown, np.log(popularity)[shown]
    chance = popularity**SHELF_POWER
    edges = np.cumsum(chance / chance.sum())
    shown = np.sort(np.minimum(np.searchsorted(edges, rng.random((users, SHOWN))), len(popularity) - 1), axis=1)
    weight = (1 - SHELF_POWER) * np.log(popularity)[shown]
    weight[:, 1:][shown[:, 1:] == shown[:, :-1]] = -np.inf
    return shown, weight


def _choices(rng: np.random.Generator, month: Indices, odds: Array) -> tuple[Indices, Indices, Indices]:
    """Rows (users), columns (visits) and places on the shelf, sorted by user and visit; no place twice per user."""
    place = np.full(month.shape, -1)
    free = np.zeros(odds.shape[:2])
    for number in range(MONTHS):
        rows, columns = np.nonzero(month == number)
        if not len(rows):
            continue
        first = np.argmax(month == number, axis=1)
        rank = columns - first[rows]
        picked = _ranked(odds[:, :, number] + free - np.log(rng.standard_exponential(free.shape)), rank.max() + 1)
        place[rows, columns] = picked[rows, rank]
        free[rows, place[rows, columns]] = -np.inf
    rows, columns = np.nonzero(place >= 0)
    return rows, columns, place[rows, columns]


def _ranked(scores: Array, count: int) -> Indices:
    """The places of the highest scores of each row, best first: the order of draws without replacement."""
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def _events(rng: np.random.Generator, rows: Indices, fit: Array) -> Indices:
    """How far each visit went; what fits a user best is always bought."""
    buys = 1 / (1 + np.exp(-(PURCHASE_BASE + PURCHASE_SLOPE * fit)))
    event = np.where(rng.random(len(rows)) < CART_SHARE, 1, 0)
    event[rng.random(len(rows)) < buys] = 2
    order = np.lexsort((fit, rows))
    event[order[np.append(np.nonzero(np.diff(rows[order]))[0], len(rows) - 1)]] = 2
    return event


def signals(plan: Plan) -> dict[str, Any]:
    """How interactions were drawn from tastes and popularity."""
    fewest, most = _most(plan)
    return {
        "fewest": fewest,
        "most": most,
        "shown": min(SHOWN, plan.products),
        "shelf_power": SHELF_POWER,
        "strength": STRENGTH,
        "purchase_base": PURCHASE_BASE,
        "purchase_slope": PURCHASE_SLOPE,
        "cart_share": CART_SHARE,
    }
