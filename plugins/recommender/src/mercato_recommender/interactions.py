"""The table of interactions: its columns, its parts by time, histories of users, and what they are asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_training import Column, Data, Table, TableSchema, TrainingError

USER, ITEM, EVENT, TIME = "user_id", "product_id", "event", "time"
SCHEMA = TableSchema(
    "interactions",
    {USER: Column("user"), ITEM: Column("key"), EVENT: Column("category", optional=True), TIME: Column("time")},
)
PURCHASE = "purchase"
"""The event whose held-out rows are judged apart as well."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows by time, each part sorted by it: to fit, to stop, and to be judged by; `cold` are items left out of both."""

    fit: Table
    stop: Table
    test: Table
    cold: frozenset[str] = frozenset()

    @property
    def seen(self) -> Table:
        """All rows before those that are judged, in the order of time."""
        return _joined(self.fit, self.stop)

    @property
    def whole(self) -> Table:
        """All rows, in the order of time."""
        return _joined(self.seen, self.test)


@dataclass(frozen=True)
class Query:
    """A user's history, the latest last, and what the user met after it: items that are not in the history."""

    history: tuple[str, ...]
    wanted: frozenset[str]
    bought: frozenset[str]


def split(data: Data, table: Table, cold_share: float = 0.0) -> Split:
    """The parts of the table; a share of the items, chosen by their ids, is left out before the judged rows.

    Raises DataError, or TrainingError where nothing is left to fit.
    """
    parts = data.parts(table, after=TIME)
    cold = frozenset(item for item in set(table[ITEM].tolist()) if _place(item) < cold_share)
    fit, stop = (_warm(_by_time(part), cold) for part in (parts.train, parts.validation))
    if not fit.rows or not stop.rows:
        raise TrainingError(f"{table.name}: no row is left to fit with cold_share = {cold_share}; lower it")
    return Split(fit, stop, _by_time(parts.test), cold)


def histories(table: Table) -> dict[str, list[str]]:
    """Each user's items, the latest last, none twice; users in the order of their ids. Rows are sorted by time."""
    found: dict[str, dict[str, None]] = {}
    for user, item in zip(table[USER].tolist(), table[ITEM].tolist(), strict=True):
        met = found.setdefault(user, {})
        met.pop(item, None)
        met[item] = None
    return {user: list(found[user]) for user in sorted(found)}


def queries(before: Table, after: Table) -> list[Query]:
    """One for each user who has a history before, and met something new after it."""
    met = histories(before)
    wanted, bought = _items_of(after), _items_of(after.take(_is_bought(after)))
    users = sorted(wanted.keys() & met.keys())
    found = [_query(met[user], wanted[user], bought.get(user, set())) for user in users]
    return [query for query in found if query.wanted]


def by_popularity(table: Table) -> list[str]:
    """The table's items, those of most rows first, items of equally many in the order of their ids."""
    items, counts = np.unique(table[ITEM].astype(str), return_counts=True)
    return [str(item) for item in items[np.argsort(-counts, kind="stable")]]


def weights(table: Table, by_event: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """What each row weighs by its event, of shape (rows,); 1 without one, or for another."""
    events: Sequence[Any] = table[EVENT].tolist() if EVENT in table else [None] * table.rows
    return np.array([by_event.get(event, 1.0) for event in events])


def numbers(names: Sequence[str], known: Sequence[str]) -> Indices:
    """The place of each name among the known ones; -1 for the others."""
    places = {name: place for place, name in enumerate(known)}
    return np.array([places.get(name, -1) for name in names], np.int64)


def _query(met: Sequence[str], wanted: set[str], bought: set[str]) -> Query:
    return Query(tuple(met), frozenset(wanted.difference(met)), frozenset(bought.difference(met)))


def _joined(first: Table, second: Table) -> Table:
    columns = {name: np.concatenate([first[name], second[name]]) for name in first.columns}
    return Table(first.name, columns, first.read)


def _is_bought(table: Table) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = table[EVENT] == PURCHASE if EVENT in table else np.zeros(table.rows, bool)
    return found


def _items_of(table: Table) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for user, item in zip(table[USER].tolist(), table[ITEM].tolist(), strict=True):
        found.setdefault(user, set()).add(item)
    return found


def _warm(table: Table, cold: frozenset[str]) -> Table:
    return table.take(np.array([item not in cold for item in table[ITEM].tolist()], bool))


def _by_time(table: Table) -> Table:
    """In the order of time, rows of one time in that of users and items: the file's own order does not count."""
    order = np.lexsort((table[ITEM].astype(str), table[USER].astype(str), table[TIME]))
    return table.take(order)


def _place(item: str) -> float:
    """A number in [0, 1) for every item, evenly spread."""
    return int.from_bytes(blake2b(item.encode(), digest_size=8).digest()) / float(1 << 64)
