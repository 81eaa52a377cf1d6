"""The crash budget on a clock of the test's own: what is counted, and how long each restart waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato_server.control.crashes import CrashBudget, CrashLimits


class Hand:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_each_restart_waits_twice_as_long_until_the_budget_is_used_up() -> None:
    budget = CrashBudget(CrashLimits(budget=5), Hand())
    assert [budget.crashed() for _ in range(5)] == [pytest.approx(0.1), 0.2, 0.4, 0.8, None]
    assert budget.used_up() == "ended 5 times within 60 s"


def test_the_longest_pause_is_five_seconds() -> None:
    budget = CrashBudget(CrashLimits(budget=2000), Hand())
    pauses = [budget.crashed() for _ in range(1999)]
    assert pauses[5:8] == [pytest.approx(3.2), 5.0, 5.0] and pauses[-1] == 5.0


def test_a_crash_is_forgotten_when_the_window_has_passed() -> None:
    hand = Hand()
    budget = CrashBudget(CrashLimits(budget=2, window=60), hand)
    assert budget.crashed() == pytest.approx(0.1)
    hand.time = 60
    assert budget.crashed() == pytest.approx(0.1)
    hand.time = 119.9
    assert budget.crashed() is None


@given(
    st.integers(1, 6),
    st.floats(1, 100),
    st.lists(st.floats(0, 50, allow_nan=False), max_size=30),
)
def test_it_is_used_up_exactly_when_so_many_crashes_lie_in_one_window(
    limit: int, window: float, gaps: list[float]
) -> None:
    hand, times = Hand(), list[float]()
    budget = CrashBudget(CrashLimits(limit, window), hand)
    for gap in gaps:
        hand.time += gap
        times.append(hand.time)
        recent = sum(hand.time - time < window for time in times)
        pause = budget.crashed()
        assert (pause is None) == (recent >= limit)
        assert pause is None or pause == pytest.approx(min(5.0, 0.1 * 2 ** (recent - 1)))
