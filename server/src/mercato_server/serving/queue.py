"""The queue before a lane: by priority, then in fair turns of the callers, then by deadline, in groups that can join.

A request costs O(log n), n being those that wait; to find which of the callers is ahead of another, or greedier, takes
a look at each caller who waits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf
from weakref import ref

from mercato_plugin import BatchPolicy
from mercato_server.serving.expiry import Expiry
from mercato_server.serving.halves import Halves
from mercato_server.serving.lines import QUANTUM, Account, Entry, Group, Level, kept
from mercato_server.serving.request import GroupKey, Request
from mercato_server.serving.turns import Turns

_COMPACT_ABOVE = 16
_RECENT = 0.05


@dataclass(frozen=True)
class Allowed:
    """What a batch may weigh, as far as is known of runs.

    `ride` gives the weight up to which less urgent rows may join more urgent ones of some weight, `in_time` that of
    which a run is over in so many seconds, `worth` that from which on a batch is worth its run, of that of a full one.
    """

    ride: Callable[[float], float]
    in_time: Callable[[float], float]
    worth: Callable[[float], float]


ANYTHING = Allowed(lambda _: inf, lambda _: inf, lambda _: 0.0)


def alike(caller: str) -> float:
    """The same share for every caller."""
    return 1.0


class Queue:
    """What waits for a batch. Entries whose caller has gone or whose deadline has passed never leave it.

    `clock` gives nanoseconds of the monotonic clock, `weight_of` the share of a caller.
    `most_weight` bounds a batch further, and may change.
    """

    def __init__(
        self,
        model: str,
        policy: BatchPolicy,
        clock: Callable[[], int],
        weight_of: Callable[[str], float] = alike,
    ) -> None:
        self._max_rows = policy.max_rows
        self._max_cost = inf if policy.max_cost is None else policy.max_cost
        self.most_weight = inf
        self._clock = clock
        self._weight_of = weight_of
        self._levels: dict[int, Level] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._turns: Turns[Group] = Turns()
        self._expiry = Expiry(model)
        self._again = Halves(self._expiry)
        self._aging: list[tuple[int, int, int, ref[Entry]]] = []  # when who moves up from which level
        self._arrived = 0
        self._row_weight = 1.0
        self._count = self._weight = self._left = 0

    def __len__(self) -> int:
        """Number of requests; any thread may ask."""
        return self._count + len(self._again)

    def add(self, entry: Entry) -> None:
        """Append a new request."""
        entry.place = self._arrived = self._arrived + 1
        entry.level = entry.request.priority
        self._row_weight += _RECENT * (entry.request.weight / entry.request.rows - self._row_weight)
        self._enter(entry)

    def withdraw(self, entry: Entry) -> None:
        """Take out one that waits."""
        self._leave(entry)
        self._left += 1
        if self._left > _COMPACT_ABOVE and self._left > self._count:
            self._compact()

    def bisect(self, entries: Sequence[Entry]) -> None:
        """Queue the two halves of a batch that has raised, each to be run as it is, before what is no more urgent."""
        self._again.cut(entries)

    def put_back(self, entries: Sequence[Entry], late: float = 0.0) -> None:
        """Queue members of a batch that was not run again, where they stood.

        `late`, in seconds of the clock, is the deadline that has passed at the least, whatever the clock says.
        """
        now = max(late, self._now())
        alive = [entry for entry in entries if self._expiry.is_alive(entry, now)]
        if alive and alive[0].is_bisected:
            self._again.put_back(alive)
            return
        for entry in alive:
            self._enter(entry)
            entry.account.serve(-entry.share)

    def clear(self) -> list[Entry]:
        """Take everything out."""
        accounts = [account for level in self._levels.values() for account in level.accounts.values()]
        waiting = [entry for account in accounts for entry in account.entries]
        for entry in waiting:
            self._leave(entry)
        self._compact()
        return self._again.clear() + waiting

    def victim(self, priority: int, caller: str) -> Entry | None:
        """The newest entry that deserves its place less than a request of this priority and caller.

        That is one of the least urgent level, of the caller who has most waiting there for its weight; at the
        request's own level only of one who has more than the request's caller.
        """
        worst = max((number for number, level in self._levels.items() if level.horizon.total), default=0)
        if worst < priority:
            return None
        accounts = self._levels[worst].accounts
        greediest = max(accounts.values(), key=lambda account: account.load / account.weight)
        if worst == priority and not _is_greedier(greediest, accounts.get((caller, priority)), self._weight_of(caller)):
            return None
        return next(reversed(greediest.entries))

    def ahead(self, request: Request) -> float:
        """The weight of what would be run before a request that came now.

        A caller waits for no more of the others than their turns beside its own, and for nothing due later.
        """
        above = sum(level.horizon.total for number, level in self._levels.items() if number < request.priority)
        above += self._again.weight
        level = self._levels.get(request.priority)
        if level is None:
            return above
        return above + min(level.horizon.until(request.urgency, self._now()), self._fair_share(level, request))

    @property
    def batch_weight(self) -> float:
        """What a full batch weighs, going by the rows that came of late."""
        return min(self._max_cost, self.most_weight, self._max_rows * self._row_weight)

    @property
    def weight(self) -> int:
        """Of all that waits."""
        return self._weight + self._again.weight

    def is_more_urgent(self, request: Request) -> bool:
        """Whether a request is of a more urgent level than anything that waits."""
        return not any(level.horizon.total for number, level in self._levels.items() if number <= request.priority)

    def just_filled(self, request: Request) -> bool:
        """Whether the request, which was added last, is the one that has made its group fill a batch."""
        group, level = self._groups[request.group], request.priority
        rows, cost = group.rows[level], group.cost[level]
        return self._is_full(rows, cost) and not self._is_full(rows - request.rows, cost - request.cost)

    def has_full(self) -> bool:
        """Whether the batch whose turn it is reaches a limit, as far as is known before it is formed."""
        group = self._turns.first() if self._count and not self._again else None
        return group is not None and self._fills(group)

    def next(self) -> tuple[int, float]:
        """Since when the entry whose turn it is waits, in ns, and what a batch with it would weigh; 0 for none."""
        group = None if self._again else self._turns.first()
        entry = group and group.first()
        if not (group and entry):
            return self._clock(), 0.0
        return entry.since, min(group.cost[entry.level] or group.rows[entry.level], self.batch_weight)

    def take(self, only_full: bool, allowed: Allowed = ANYTHING) -> tuple[list[Entry], bool]:
        """Take the next batch out: a part of one that has raised first, unless something more urgent waits.

        Gives its entries, and whether it reached a limit with more waiting. With `only_full` nothing is taken when
        the batch whose turn it is reaches no limit, so that a group which fills often overtakes no other; what is
        taken reached one. A batch becomes no larger than is `allowed` for its earliest deadline, and what cannot be run
        in time, by itself or in a batch that is worth its run, is told so.
        """
        if not self._count and not self._again:
            return [], False
        self._age()
        now = self._now()
        while True:
            if (again := self._bisected(now, only_full)) is not None:
                return again, False
            group = self._turns.first() if self._count else None
            if group is None or (only_full and not self._fills(group)):
                return [], False
            entries, is_full = self._form(group, now, allowed)
            if only_full and not is_full and not (is_full := self._fill(entries)):
                self.put_back(entries)  # some were late, or in a hurry
                return [], False
            if entries:
                return entries, is_full

    def _bisected(self, now: float, only_full: bool) -> list[Entry] | None:
        """The next part of a batch that has raised; None when something more urgent waits, or there is none."""
        part = self._again.first(now)
        if not part:
            return None
        group = self._turns.first()
        first = group.first() if group else None
        if first is not None and first.level < min(entry.risen(self._clock()) for entry in part):
            return None
        if only_full:
            return []
        self._again.pop()
        return part

    def _form(self, group: Group, now: float, allowed: Allowed) -> tuple[list[Entry], bool]:
        """The next entries of the group that fit together, and whether one that comes next would pass a limit."""
        taken: list[Entry] = []
        rows = cost = weight = 0
        most = inf
        while group.waiting and (entry := group.first()):
            request = entry.request
            in_time = allowed.in_time(request.deadline - now)
            if not (self._expiry.is_alive(entry, now) and (taken or self._is_in_time(group, entry, in_time, allowed))):
                self._leave(entry)
                continue
            if taken and entry.level > taken[-1].level:
                most = min(most, allowed.ride(weight))
            most = min(most, in_time)
            rows, cost, weight = rows + request.rows, cost + request.cost, weight + request.weight
            if taken and (rows > self._max_rows or cost > self._max_cost or weight > self.most_weight):
                return taken, True
            if weight > most:
                break
            if not taken:
                self._levels[entry.level].round = max(self._levels[entry.level].round, entry.account.round)
            self._serve(entry)
            taken.append(entry)
        return taken, False

    def _is_in_time(self, group: Group, entry: Entry, most: float, allowed: Allowed) -> bool:
        """Whether the first member of a batch can be answered in time by a batch that is worth its run."""
        waiting = group.cost[entry.level] or group.rows[entry.level]
        return self._expiry.is_in_time(entry, most, min(waiting, allowed.worth(self.batch_weight)))

    def _serve(self, entry: Entry) -> None:
        """Take it out and charge its caller."""
        account, request = entry.account, entry.request
        self._leave(entry)
        entry.share = max(request.rows / self._max_rows, request.cost / self._max_cost)
        account.serve(entry.share)

    def _enter(self, entry: Entry) -> None:
        request = entry.request
        level = self._levels.get(entry.level)
        if level is None:
            level = self._levels[entry.level] = Level()
        entry.account = self._account(level, entry)
        entry.account.entries[entry] = None
        entry.account.load += request.weight
        entry.slot = level.horizon.add(request.urgency, request.weight, self._now())
        group = self._groups.get(request.group) or kept(self._groups, request.group, Group)
        if group.push(entry):
            self._turns.offer(group)
        if entry.level > 1:
            heappush(self._aging, (entry.rises_at(entry.level), entry.place, entry.level, ref(entry)))
            if len(self._aging) > 2 * self._count + _COMPACT_ABOVE:
                self._compact_aging()
        self._count += 1
        self._weight += request.weight

    def _account(self, level: Level, entry: Entry) -> Account:
        """That of its caller."""
        key = caller, _ = entry.request.caller, entry.request.priority
        account = level.accounts.get(key)
        if account is None:
            account = kept(level.accounts, key, lambda: Account(entry.level, self._weight_of(caller)))
        account.catch_up(level.round)
        return account

    def _leave(self, entry: Entry) -> None:
        """Out of everything but the heaps, which let go of it when they come to it."""
        request, account = entry.request, entry.account
        level, group = self._levels[entry.level], self._groups[request.group]
        group.leave(entry)
        del account.entries[entry]
        account.load -= request.weight
        level.horizon.remove(entry.slot, request.weight)
        self._count -= 1
        self._weight -= request.weight

    def _age(self) -> None:
        """Move up what has waited long enough."""
        now = self._clock()
        while self._aging and self._aging[0][0] <= now:
            _, _, level, reference = heappop(self._aging)
            entry = reference()
            if entry is not None and entry.line is not None and entry.level == level:
                self.withdraw(entry)
                entry.level -= 1
                self._enter(entry)

    def _compact(self) -> None:
        """Let go of requests that have left: deep in a heap they would hold memory without bound."""
        for group in self._groups.values():
            group.compact()
        self._left = 0

    def _compact_aging(self) -> None:
        self._aging = [item for item in self._aging if (entry := item[3]()) and entry.line and entry.level == item[2]]
        heapify(self._aging)

    def _fair_share(self, level: Level, request: Request) -> float:
        """What is run at this level before the request, if every other caller gets no more than its weight allows."""
        own = level.accounts.get((request.caller, request.priority))
        own_weight = self._weight_of(request.caller)
        turn = ((own.load if own else 0) + request.weight) / own_weight + self.batch_weight * QUANTUM
        others = (account for account in level.accounts.values() if account is not own)
        return (own.load if own else 0) + sum(min(account.load, turn * account.weight) for account in others)

    def _fills(self, group: Group) -> bool:
        """Whether what waits in the group at the level whose turn it is reaches a limit."""
        entry = group.first()
        return entry is not None and self._is_full(group.rows[entry.level], group.cost[entry.level])

    def _fill(self, entries: Iterable[Entry]) -> bool:
        requests = [entry.request for entry in entries]
        return self._is_full(sum(request.rows for request in requests), sum(request.cost for request in requests))

    def _is_full(self, rows: int, cost: int) -> bool:
        return rows >= self._max_rows or cost >= self._max_cost or (cost or rows) >= self.most_weight

    def _now(self) -> float:
        return self._clock() / 1e9


def _is_greedier(account: Account, other: Account | None, weight: float) -> bool:
    """Whether one caller has more waiting for its weight than another one has, or would have with one request more."""
    mean = account.load / len(account.entries)
    return account.load / account.weight > ((other.load if other else 0) + mean) / weight
