"""The pace: how large a batch may be, how long it gathers, and who may ride along."""

from math import inf

import pytest

from mercato_server.serving.curve import Curve
from mercato_server.serving.pace import Pace

FLAT = (0.010, 0.0001)
STEEP = (0.001, 0.010)


def paced(line: tuple[float, float], target: float | None, rate: int = 1000) -> Pace:
    """A pace that knows a line of base and slope, with `rate` of weight arriving per second."""
    curve = Curve()
    for weight in (1, 2, 4, 8, 16, 32):
        curve.learn(weight, line[0] + line[1] * weight)
    pace = Pace(curve, target)
    pace.took(0)
    for second in range(1, 60):
        pace.arrive(rate)
        pace.took(second * 10**9)
    return pace


def test_without_a_target_nothing_is_bounded_and_nothing_waits() -> None:
    pace = paced(FLAT, None)
    assert pace.most_weight() == inf
    assert pace.window(0.0, 4, 64) == 0.0


def test_before_anything_was_measured_nothing_is_bounded_and_nothing_waits() -> None:
    pace = Pace(Curve(), 0.1)
    assert (pace.most_weight(), pace.window(0.0, 4, 64)) == (inf, 0.0)


def test_a_run_may_take_half_the_target() -> None:
    assert paced(STEEP, 0.2).most_weight() == pytest.approx(9.9, rel=0.01)


def test_a_target_that_cannot_be_met_leaves_batches_that_are_worth_a_run() -> None:
    assert paced(FLAT, 0.001).most_weight() == pytest.approx(100, rel=0.01)
    assert paced(STEEP, 0.001).most_weight() == pytest.approx(0.1, rel=0.01)


def test_where_a_larger_batch_is_cheaper_it_waits_for_as_much_again() -> None:
    assert paced(FLAT, 0.1).window(0.0, 8, 64) == pytest.approx(8 / 1000, rel=0.01)


@pytest.mark.parametrize(
    ("line", "rate", "waited", "weight"),
    [
        (STEEP, 1000, 0.0, 8),  # larger is not cheaper
        (FLAT, 1, 0.0, 8),  # as much would not come in time
        (FLAT, 1000, 0.09, 8),  # the first has waited long enough
        (FLAT, 1000, 0.0, 64),  # it is full
        (FLAT, 1000, 0.0, 0),  # nobody waits
    ],
)
def test_otherwise_it_leaves_at_once(line: tuple[float, float], rate: int, waited: float, weight: int) -> None:
    assert paced(line, 0.1, rate).window(waited, weight, 64) == 0.0


def test_riding_along_may_cost_a_fifth() -> None:
    assert paced(STEEP, None).ride(10) == pytest.approx(12.02, rel=0.01)
    assert paced(FLAT, None).ride(1) == pytest.approx(21.2, rel=0.02)
