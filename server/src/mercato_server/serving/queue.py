"""The queue before a lane: requests by group in the order of their arrival, and those that are run again alone."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from math import inf
from operator import attrgetter

from mercato_plugin import BatchPolicy
from mercato_server.errors import DeadlineExpired
from mercato_server.serving.request import Entry, GroupKey, Request

_SWEEP_EVERY = 16

_place = attrgetter("place")


class Group:
    """What may share a batch, in order of arrival, and its sums; they count the gone and the late until seen."""

    __slots__ = ("cost", "entries", "rows")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.rows = 0
        self.cost = 0


class Queue:
    """What waits for a batch. Entries whose caller has gone or whose deadline has passed never leave it.

    `clock` gives nanoseconds of the monotonic clock.
    """

    def __init__(self, model: str, policy: BatchPolicy, clock: Callable[[], int]) -> None:
        self._model = model
        self._max_rows = policy.max_rows
        self._max_cost = inf if policy.max_cost is None else policy.max_cost
        self._clock = clock
        self._groups: dict[GroupKey, Group] = {}
        self._retries: deque[Entry] = deque()
        self._rows = 0  # in the groups
        self._arrived = 0
        self._until_sweep = _SWEEP_EVERY

    def __len__(self) -> int:
        """Number of requests; any thread may ask."""
        return len(self._retries) + sum(len(group.entries) for group in list(self._groups.values()))

    def batches(self) -> float:
        """How many batches it makes if they are full, those that are run again alone one by one."""
        return len(self._retries) + self._rows / self._max_rows

    def add(self, entry: Entry) -> None:
        """Append a new request."""
        entry.place = self._arrived = self._arrived + 1
        request = entry.request
        group = self._groups.get(request.group)
        if group is None:
            group = self._groups[request.group] = Group()
        group.entries.append(entry)
        self._enter(group, request)
        self._until_sweep -= 1
        if not self._until_sweep:
            self._sweep()

    def add_alone(self, entries: Sequence[Entry]) -> None:
        """Append members of a joined batch that raised; each becomes a batch of its own, before anything else."""
        for entry in entries:
            entry.alone = True
        self._retries.extend(entries)

    def put_back(self, entries: Sequence[Entry], late: float) -> None:
        """Queue members of a batch that was not run again, where they stood.

        `late`, in seconds of the clock, is the deadline that has passed at the least, whatever the clock says.
        """
        now = max(late, self._clock() / 1e9)
        self._restore([entry for entry in entries if self._alive(entry, now)])

    def clear(self) -> list[Entry]:
        """Take everything out."""
        entries = [*self._retries, *chain.from_iterable(group.entries for group in self._groups.values())]
        self._retries.clear()
        self._groups.clear()
        self._rows = 0
        return entries

    def just_filled(self, request: Request) -> bool:
        """Whether the request, which was added last, is the one that has made its group fill a batch."""
        group = self._groups[request.group]
        return self._is_full(group.rows, group.cost) and not self._is_full(
            group.rows - request.rows, group.cost - request.cost
        )

    def has_full(self) -> bool:
        """Whether the batch whose turn it is reaches a limit, as far as is known before it is formed."""
        if not self._groups or self._retries:
            return False
        group = self._groups[self._oldest()]
        return self._is_full(group.rows, group.cost)

    def take(self, only_full: bool) -> tuple[list[Entry], bool]:
        """Take the next batch out: what is run again alone first, else that of the group that has waited longest.

        Gives its entries, and whether it reached a limit with more waiting. With `only_full` nothing is taken when
        the batch whose turn it is reaches no limit, so that a group which fills often overtakes no other; what is
        taken reached one.
        """
        if not self._groups and not self._retries:
            return [], False
        now = self._clock() / 1e9
        while self._retries:
            if self._alive(self._retries[0], now):
                return ([] if only_full else [self._retries.popleft()]), False
            self._retries.popleft()
        while self._groups:
            key = self._oldest()
            group = self._groups[key]
            if only_full and not self._is_full(group.rows, group.cost):
                break
            entries, is_full = self._form(group, now)
            if not group.entries:
                del self._groups[key]
            if only_full and not is_full and not (is_full := self._fill(entries)):
                self._restore(entries)  # some had gone
            elif entries:
                return entries, is_full
        return [], False

    def _form(self, group: Group, now: float) -> tuple[list[Entry], bool]:
        taken: list[Entry] = []
        rows = cost = 0
        waiting = group.entries
        while waiting:
            entry = waiting[0]
            if self._alive(entry, now):
                rows += entry.request.rows
                cost += entry.request.cost
                if taken and (rows > self._max_rows or cost > self._max_cost):
                    return taken, True
                taken.append(entry)
            self._leave(group, waiting.popleft().request)
        return taken, False

    def _restore(self, entries: Sequence[Entry]) -> None:
        """Bring entries of one group, if any, back to where they stood."""
        if not entries:
            return
        group = self._groups.setdefault(entries[0].request.group, Group())
        for entry in entries:
            self._enter(group, entry.request)
        group.entries = deque(sorted([*entries, *group.entries], key=_place))

    def _enter(self, group: Group, request: Request) -> None:
        group.rows += request.rows
        group.cost += request.cost
        self._rows += request.rows

    def _leave(self, group: Group, request: Request) -> None:
        group.rows -= request.rows
        group.cost -= request.cost
        self._rows -= request.rows

    def _oldest(self) -> GroupKey:
        if len(self._groups) == 1:
            return next(iter(self._groups))
        return min(self._groups, key=lambda key: self._groups[key].entries[0].place)

    def _fill(self, entries: Sequence[Entry]) -> bool:
        return self._is_full(sum(e.request.rows for e in entries), sum(e.request.cost for e in entries))

    def _is_full(self, rows: int, cost: int) -> bool:
        return rows >= self._max_rows or cost >= self._max_cost

    def _alive(self, entry: Entry, now: float) -> bool:
        """Whether somebody still waits; an expired entry is told so, and neither is ever run."""
        if entry.future.done():
            return False
        if now >= entry.request.deadline:
            text = f"model {self._model!r}: the deadline passed in the queue, {_what_ran(entry)}"
            entry.future.set_exception(DeadlineExpired(text, model=self._model))
            return False
        return True

    def _sweep(self) -> None:
        """Let go of requests whose callers have gone: behind a busy lane they would hold memory without bound."""
        for key, group in list(self._groups.items()):
            for entry in (gone := [entry for entry in group.entries if entry.future.done()]):
                self._leave(group, entry.request)
            if len(gone) == len(group.entries):
                del self._groups[key]
            elif gone:
                group.entries = deque(entry for entry in group.entries if not entry.future.done())
        # As many arrivals as entries left, so that a request pays for a constant share of the sweeps.
        self._until_sweep = max(_SWEEP_EVERY, len(self))


def _what_ran(entry: Entry) -> str:
    return "before it was run again alone" if entry.alone else "nothing was run"
