"""The horizon: how much is due before a time, against a plain list."""

from hypothesis import given
from hypothesis import strategies as st

from mercato_server.serving.horizon import Horizon

SLOT = 1 / 16


def test_what_is_due_later_is_not_counted() -> None:
    horizon, now = Horizon(), 1000.0
    horizon.add(1001.0, 3, now)
    far = horizon.add(5000.0, 7, now)
    assert [horizon.until(due, now) for due in (1000.5, 1001.0, 1030.0, 1032.0, float("inf"))] == [0, 3, 3, 10, 10]
    horizon.remove(far, 7)
    assert (horizon.until(float("inf"), now), horizon.total) == (3, 3)


def test_what_came_far_ahead_is_not_forgotten_when_its_time_comes_near() -> None:
    horizon = Horizon()
    slot = horizon.add(60.0, 5, 0.0)
    assert [horizon.until(due, 35.0) for due in (50.0, 61.0)] == [0, 5]
    horizon.remove(slot, 5)
    horizon.add(200.0, 3, 100.0)
    assert [horizon.until(due, 175.0) for due in (190.0, 201.0)] == [0, 3]


@given(
    dues=st.lists(st.tuples(st.floats(0.0, 60.0), st.integers(1, 9)), max_size=40),
    asked=st.floats(0.0, 31.0),
    start=st.floats(0.0, 1e5),
)
def test_it_agrees_with_a_list_to_a_slot(dues: list[tuple[float, int]], asked: float, start: float) -> None:
    horizon = Horizon()
    slots = [(horizon.add(start + due, weight, start), weight) for due, weight in dues]
    least = sum(weight for due, weight in dues if due <= asked - SLOT)
    most = sum(weight for due, weight in dues if due <= asked + SLOT)
    assert least <= horizon.until(start + asked, start) <= max(most, least)
    for slot, weight in slots:
        horizon.remove(slot, weight)
    assert horizon.total == 0 and not any(horizon._sums)
