"""Who stands where in the queue: a line per caller and priority, callers in turns, deadlines within a line."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import floor
from typing import TypeVar

from mercato_server.serving.horizon import Horizon
from mercato_server.serving.request import Answer, Request
from mercato_server.serving.turns import Key, Turns

AGED = 0.8
"""Share of a request's time after which it counts as most urgent, so that it is run before its deadline."""

QUANTUM = 1 / 8
"""Share of a full batch that a caller of weight 1 is served before another one's turn."""


_ROOM = 64

Name = TypeVar("Name")
Thing = TypeVar("Thing", "Account", "Line", "Group")


def kept(things: dict[Name, Thing], name: Name, made: Callable[[], Thing]) -> Thing:
    """The thing of that name, made where there is none; those in which nobody waits stay until they are many."""
    thing = things.get(name)
    if thing is None:
        if len(things) >= _ROOM and len(things).bit_count() == 1:
            for empty in [other for other, thing in things.items() if not thing.waiting]:
                del things[empty]
        thing = things[name] = made()
    return thing


@dataclass(slots=True, eq=False, weakref_slot=True)
class Entry:
    """A request in the queue, with the future that its caller waits on.

    `since` is in nanoseconds; `place` counts arrivals, so that what returns to the queue stands where it stood.
    `level` is the request's priority, less what it has gained by waiting. `is_bisected` where a batch that it was in
    has raised. It waits in `line`, None where it does not wait, by its `account`, and counts in a `slot` of its level;
    `share` of a full batch was charged for it when it left.
    """

    request: Request
    future: "asyncio.Future[Answer]"
    since: int
    place: int = 0
    level: int = 0
    is_bisected: bool = False
    line: "Line | None" = None
    account: "Account" = field(init=False)
    slot: int = 0
    share: float = 0.0

    def rises_at(self, level: int) -> int:
        """When it moves up from a level, in ns: step by step, and to the first level when it has aged."""
        priority = self.request.priority
        step = AGED * (self.request.urgency * 1e9 - self.since) / (priority - 1)
        return self.since + int(step * (priority - level + 1))

    def risen(self, now: int) -> int:
        """Its level at a time in ns, whether or not it has been moved there."""
        level = self.level
        while level > 1 and self.rises_at(level) <= now:
            level -= 1
        return level


class Account:
    """One caller's standing at one level, apart for what has risen: what waits, and in which round its next turn is.

    Callers with the same round stand in the order of deadlines, so that callers who ask little are not held to turns.
    """

    __slots__ = ("entries", "level", "load", "round", "served", "weight")

    def __init__(self, level: int, weight: float) -> None:
        self.level = level
        self.weight = weight
        self.round = 0
        self.served = 0.0
        self.load = 0
        self.entries: dict[Entry, None] = {}  # as they came

    @property
    def waiting(self) -> int:
        """Number of its entries."""
        return len(self.entries)

    def catch_up(self, round: int) -> None:
        """Who comes new, or back, stands in the round that is served now."""
        if not self.entries and self.round < round:
            self.round, self.served = round, 0.0

    def serve(self, share: float) -> None:
        """It was given a share of a full batch, or gives back what was not run."""
        self.served += share / self.weight
        rounds = floor(self.served / QUANTUM)
        self.round += rounds
        self.served -= rounds * QUANTUM


class Level:
    """All that waits at one level of priority, by caller and priority; `round` is the one that is served now."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, int], Account] = {}
        self.horizon = Horizon()
        self.round = 0


class Line:
    """What one account has waiting in one group, the earliest deadline first."""

    __slots__ = ("_heap", "account", "turn", "waiting")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.waiting = 0
        self.turn: Key | None = None
        self._heap: list[tuple[float, int, Entry]] = []

    def push(self, entry: Entry) -> bool:
        """Stand in line; whether in front of all others."""
        entry.line = self
        self.waiting += 1
        heappush(self._heap, (entry.request.urgency, entry.place, entry))
        return self._heap[0][2] is entry

    def first(self) -> Entry | None:
        """The one to be served next; those that have left are let go of."""
        while self._heap:
            entry = self._heap[0][2]
            if entry.line is self:
                return entry
            heappop(self._heap)
        return None

    def key(self) -> Key | None:
        """The more urgent level first, then the earlier round, then the earlier deadline, then who came first."""
        if self.first() is None:
            return None
        urgency, place, _ = self._heap[0]
        return self.account.level, self.account.round, urgency, place

    def compact(self) -> None:
        """Let go of all that have left."""
        self._heap = [item for item in self._heap if item[2].line is self]
        heapify(self._heap)


class Group:
    """What may share a batch: its lines in turns, and its sums by level."""

    __slots__ = ("cost", "lines", "rows", "turn", "turns", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.turn: Key | None = None
        self.turns: Turns[Line] = Turns()
        self.lines: dict[Account, Line] = {}
        self.rows: dict[int, int] = {}
        self.cost: dict[int, int] = {}

    def key(self) -> Key | None:
        """That of the entry whose turn it is."""
        line = self.turns.first()
        return None if line is None else line.turn

    def push(self, entry: Entry) -> bool:
        """Have an entry stand in its account's line; whether the turn of its line may have come nearer by it."""
        account = entry.account
        line = self.lines.get(account) or kept(self.lines, account, lambda: Line(account))
        self.waiting += 1
        level, request = entry.level, entry.request
        self.rows[level] = self.rows.get(level, 0) + request.rows
        self.cost[level] = self.cost.get(level, 0) + request.cost
        is_first = line.push(entry)
        if is_first:
            self.turns.offer(line)
        return is_first

    def leave(self, entry: Entry) -> None:
        """It stands here no more; its line's heap lets go of it when it comes to it."""
        line, request = entry.line, entry.request
        assert line is not None, "only what waits can leave"
        entry.line = None
        line.waiting -= 1
        self.waiting -= 1
        self.rows[entry.level] -= request.rows
        self.cost[entry.level] -= request.cost

    def first(self) -> Entry | None:
        """The entry whose turn it is."""
        line = self.turns.first()
        return None if line is None else line.first()

    def compact(self) -> None:
        """Let go of what has left."""
        for line in self.lines.values():
            line.compact()
