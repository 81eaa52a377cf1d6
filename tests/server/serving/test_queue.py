"""The queue: priorities and aging, turns of callers, deadlines, who gives up a place, and what is ahead of whom."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving.puppet import Clock, request

from mercato_plugin import BatchPolicy
from mercato_server.serving.lines import Entry
from mercato_server.serving.queue import ANYTHING, Queue
from mercato_server.serving.request import Request


class Waiting:
    """A queue of its own, without a lane; entries are told apart by their order of arrival."""

    def __init__(self, weights: dict[str, float] | None = None, **policy: int) -> None:
        self.clock = Clock()
        self.loop = asyncio.new_event_loop()
        given = weights or {}
        weight_of: Callable[[str], float] = lambda caller: given.get(caller, 1.0)  # noqa: E731
        self.queue = Queue("shop.tiny", BatchPolicy(**policy), self.clock, weight_of)
        self.entries: list[Entry] = []
        self._numbers = count()

    def add(self, **facts: object) -> Entry:
        made: Request = request(next(self._numbers), **facts)  # type: ignore[arg-type]
        entry = Entry(made, self.loop.create_future(), self.clock.now)
        self.queue.add(entry)
        self.entries.append(entry)
        return entry

    def take(self, only_full: bool = False, ride: Callable[[float], float] = lambda _: inf) -> list[int]:
        entries, _ = self.queue.take(only_full, replace(ANYTHING, ride=ride))
        for entry in entries:
            entry.future.cancel()
        return [self.entries.index(entry) for entry in entries]

    def callers(self, batches: int) -> list[str]:
        """Whose requests the next batches hold."""
        return [self.entries[number].request.caller for _ in range(batches) for number in self.take()]

    def close(self) -> None:
        """Look at every outcome, or asyncio tells of those that nobody has asked for."""
        for entry in self.entries:
            if not entry.future.cancel() and not entry.future.cancelled():
                entry.future.exception()
        self.loop.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Waiting]]:
    made: list[Waiting] = []

    def make(*args: object, **facts: object) -> Waiting:
        made.append(Waiting(*args, **facts))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for waiting in made:
        waiting.close()


Make = Callable[..., Waiting]


def test_the_earliest_deadline_goes_first(make: Make) -> None:
    w = make(max_rows=2)
    for deadline in (9.0, 3.0, 7.0, 1.0):
        w.add(deadline=deadline)
    assert [w.take(), w.take(), w.take()] == [[3, 1], [2, 0], []]


def test_equal_deadlines_keep_the_order_of_arrival(make: Make) -> None:
    w = make(max_rows=3)
    for _ in range(6):
        w.add(deadline=5.0)
    assert w.take() + w.take() == [0, 1, 2, 3, 4, 5]


def test_what_must_not_overtake_stands_where_its_urgency_says(make: Make) -> None:
    w = make(max_rows=1)
    w.add(deadline=9.0)
    w.add(deadline=2.0, urgency=9.0)
    assert [w.take(), w.take()] == [[0], [1]]
    w.add(deadline=2.0, urgency=9.0)
    w.clock.advance(2.0)
    assert w.take() == [] and w.entries[2].future.exception()


def test_a_more_urgent_level_goes_first_whatever_the_deadlines(make: Make) -> None:
    w = make(max_rows=1)
    for priority in (9, 1, 5, 2):
        w.add(priority=priority, deadline=float(priority))
    assert [w.take() for _ in range(4)] == [[1], [3], [2], [0]]


@pytest.mark.parametrize("priority", [2, 5, 9])
@pytest.mark.parametrize("patience", [2.0, 10.0, 3600.0])
def test_waiting_makes_more_urgent_so_that_nobody_starves(make: Make, priority: int, patience: float) -> None:
    w = make(max_rows=1)
    low = w.add(priority=priority, deadline=patience)
    for _ in range(9):
        now = w.clock.now / 1e9
        for _ in range(3):
            w.add(priority=1, deadline=now + patience / 2)
        w.clock.advance(patience / 10)
        w.take()
    assert (low.line, low.level) == (None, 1) and low.future.cancelled()


def test_what_waits_moves_up_level_by_level(make: Make) -> None:
    w = make(max_rows=2)
    low = w.add(priority=5, deadline=10.0)
    levels = []
    for _ in range(10):
        w.take(only_full=True)
        levels.append(low.level)
        w.clock.advance(1.0)
    assert levels == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]


def test_what_has_aged_competes_by_its_deadline(make: Make) -> None:
    w = make(max_rows=1)
    w.add(priority=2, deadline=50.0)
    w.clock.advance(40.0)
    w.add(priority=1, deadline=45.0)
    w.add(priority=1, deadline=60.0)
    assert [w.take(), w.take(), w.take()] == [[1], [0], [2]]


def test_a_flood_of_one_caller_does_not_hold_up_another(make: Make) -> None:
    w = make(max_rows=8)
    for _ in range(100):
        w.add(caller="flood", deadline=10.0)
    w.take()
    w.add(caller="polite", deadline=20.0)
    assert "polite" in w.callers(1)


def test_callers_share_by_weight(make: Make) -> None:
    w = make({"heavy": 3.0}, max_rows=8)
    for _ in range(200):
        w.add(caller="light")
        w.add(caller="heavy")
    served = w.callers(25)
    assert served.count("heavy") == pytest.approx(150, abs=8)
    assert served.count("light") == pytest.approx(50, abs=8)


def test_rows_count_for_a_share_not_requests(make: Make) -> None:
    w = make(max_rows=8)
    for _ in range(40):
        w.add(caller="wide", rows=4)
    for _ in range(160):
        w.add(caller="narrow")
    rows = {"wide": 0, "narrow": 0}
    for _ in range(20):
        for number in w.take():
            rows[w.entries[number].request.caller] += w.entries[number].request.rows
    assert rows["wide"] == pytest.approx(rows["narrow"], rel=0.15)


def test_who_comes_back_has_saved_nothing_up(make: Make) -> None:
    w = make(max_rows=4)
    for _ in range(80):
        w.add(caller="steady")
    w.callers(10)
    for _ in range(40):
        w.add(caller="idle until now", deadline=1.0)
    served = w.callers(8)
    assert served.count("steady") >= 12


@pytest.mark.parametrize("weight", [1.0, 0.1, 0.001])
def test_who_comes_after_a_light_caller_was_served_does_not_wait_for_it(make: Make, weight: float) -> None:
    w = make({"light": weight}, max_rows=8)
    for _ in range(8):
        w.add(caller="light")
    w.callers(1)
    for _ in range(400):
        w.add(caller="flood")
    w.callers(1)
    w.add(caller="newcomer")
    assert "newcomer" in w.callers(2)


def test_what_was_not_run_is_not_charged(make: Make) -> None:
    w = make(max_rows=8)
    for _ in range(80):
        w.add(caller="a")
        w.add(caller="b")
    before = [(account.round, account.served) for account in w.queue._levels[5].accounts.values()]
    entries, _ = w.queue.take(False)
    w.queue.put_back(entries)
    assert [(account.round, account.served) for account in w.queue._levels[5].accounts.values()] == before


def test_what_has_risen_does_not_stand_in_the_way_of_the_callers_own_urgent_requests(make: Make) -> None:
    w = make(max_rows=2)
    for _ in range(100):
        w.add(caller="one", priority=9, deadline=20.0)
    w.clock.advance(16.0)
    w.take()
    urgent = w.add(caller="one", priority=1, deadline=36.0)
    w.take()
    w.take()
    assert urgent.line is None and urgent.future.cancelled()


def test_nothing_is_kept_of_what_has_left(make: Make) -> None:
    w = make(max_rows=8)
    for _ in range(2000):
        for _ in range(8):
            w.add(priority=9, deadline=86_400.0)
        w.take()
    assert len(w.queue) == 0 and len(w.queue._aging) <= 100


@settings(max_examples=20)
@given(data=st.data())
def test_every_caller_gets_its_share_while_all_have_work(data: st.DataObject) -> None:
    weights = data.draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2))
    w = Waiting(dict(weights), max_rows=data.draw(st.sampled_from([4, 16])))
    try:
        deadlines = st.floats(10.0, 1000.0)
        for caller in weights:
            for _ in range(300):
                w.add(caller=caller, deadline=data.draw(deadlines) if len(w.entries) % 50 == 0 else 100.0)
        served: dict[str, int] = dict.fromkeys(weights, 0)
        while all(served[caller] < 280 for caller in weights) and sum(served.values()) < 400:
            for number in w.take():
                served[w.entries[number].request.caller] += 1
        total = sum(served.values())
        for caller, weight in weights.items():
            fair = total * weight / sum(weights.values())
            assert abs(served[caller] - fair) <= 16 * 4 / 8 * 2 + 16
    finally:
        w.close()


def test_groups_never_mix_and_the_most_urgent_leads(make: Make) -> None:
    w = make(max_rows=4)
    w.add(group=("a",), deadline=5.0)
    w.add(group=("b",), deadline=3.0)
    w.add(group=("a",), deadline=4.0)
    w.add(group=("b",), deadline=9.0)
    assert [w.take(), w.take()] == [[1, 3], [2, 0]]


def test_less_urgent_rows_ride_along_as_far_as_they_may(make: Make) -> None:
    w = make(max_rows=8)
    for _ in range(6):
        w.add(priority=9)
    w.add(priority=1)
    assert w.take(ride=lambda weight: 3 * weight) == [6, 0, 1]
    w.add(priority=1)
    assert w.take(ride=lambda weight: weight) == [7]
    assert w.take(ride=lambda weight: weight) == [2, 3, 4, 5]


def test_a_bound_on_weight_bounds_a_batch(make: Make) -> None:
    w = make(max_rows=64)
    for _ in range(5):
        w.add(cost=10)
    w.queue.most_weight = 25
    assert w.take() == [0, 1]
    w.queue.most_weight = 1
    assert w.take() == [2]


def test_only_a_full_batch_is_taken_when_only_that_may_go(make: Make) -> None:
    w = make(max_rows=3)
    w.add(priority=1)
    for _ in range(4):
        w.add(priority=9)
    assert not w.queue.has_full() and w.take(only_full=True) == []
    assert w.take(ride=lambda weight: weight) == [0]
    assert w.queue.has_full() and w.take(only_full=True) == [1, 2, 3]
    assert len(w.queue) == 1


def test_who_leaves_is_counted_no_more_and_lets_go_of_its_rows(make: Make) -> None:
    w = make(max_rows=2)
    entries = [w.add(cost=7) for _ in range(300)]
    for entry in entries[:299]:
        w.queue.withdraw(entry)
    assert (len(w.queue), w.queue.weight) == (1, 7)
    held = [item for line in entries[299].account.entries for item in (line,)]
    assert held == [entries[299]]
    [group] = w.queue._groups.values()
    [line] = group.lines.values()
    assert len(line._heap) <= 65


@pytest.mark.parametrize(
    ("priority", "caller", "victim"),
    [
        (5, "flood", None),  # the greediest itself
        (5, "polite", 9),  # the newest of the greediest
        (1, "flood", 9),  # a more urgent one takes a less urgent place
        (9, "polite", None),  # nothing waits that is less urgent
    ],
)
def test_who_gives_up_its_place(make: Make, priority: int, caller: str, victim: int | None) -> None:
    w = make()
    w.add(caller="polite")
    for _ in range(9):
        w.add(caller="flood")
    shed = w.queue.victim(priority, caller)
    assert (None if shed is None else w.entries.index(shed)) == victim
    assert len(w.queue) == 10


def test_equals_do_not_take_each_others_places(make: Make) -> None:
    w = make()
    for caller in "ab":
        for _ in range(5):
            w.add(caller=caller)
    assert w.queue.victim(5, "a") is None and w.queue.victim(5, "b") is None
    assert w.queue.victim(5, "new") is not None


def test_a_callers_weight_counts_for_its_place(make: Make) -> None:
    w = make({"heavy": 4.0})
    for _ in range(4):
        w.add(caller="heavy")
    for _ in range(2):
        w.add(caller="light")
    assert w.queue.victim(5, "light") is None
    shed = w.queue.victim(5, "heavy")
    assert shed is not None and shed.request.caller == "light"


def test_what_is_ahead_goes_by_level_and_deadline(make: Make) -> None:
    w = make(max_rows=64)
    w.add(priority=1, cost=100)
    for deadline in (2.0, 4.0, 8.0):
        w.add(cost=10, deadline=deadline)
    w.add(priority=9, cost=1000)
    ahead = [w.queue.ahead(request(0, deadline=deadline, cost=1)) for deadline in (1.0, 3.0, 9.0, 100.0)]
    assert ahead == [100, 110, 130, 130]
    assert w.queue.ahead(request(0, priority=1, cost=1)) == 100
    assert w.queue.ahead(request(0, priority=9, cost=1, deadline=2e6)) == 1130


def test_of_other_callers_no_more_is_ahead_than_their_turns(make: Make) -> None:
    w = make(max_rows=8)
    for _ in range(100):
        w.add(caller="flood", deadline=5.0)
    assert w.queue.ahead(request(0, caller="flood", deadline=9.0)) == 100
    assert w.queue.ahead(request(0, caller="polite", deadline=9.0)) == 2
