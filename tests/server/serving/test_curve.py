"""The curve: what runs are expected to take, from those that were measured."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercato_server.serving.curve import Curve


def measured(*runs: tuple[float, float]) -> Curve:
    curve = Curve()
    for weight, seconds in runs:
        curve.learn(weight, seconds)
    return curve


def test_before_the_first_run_it_knows_nothing() -> None:
    curve = Curve()
    assert (curve.runs, curve.seconds(100), curve.usual, curve.error, curve.weight(1.0)) == (0, 0.0, 0.0, 0.0, inf)


def test_runs_of_one_weight_tell_a_time_and_no_slope() -> None:
    curve = measured((8, 2.0), (8, 2.0))
    assert (curve.seconds(8), curve.seconds(800), curve.usual) == (2.0, 2.0, 2.0)
    assert (curve.weight(1.0), curve.weight(2.0)) == (0.0, inf)


def test_a_line_is_found() -> None:
    curve = measured(*((weight, 0.5 + 0.25 * weight) for weight in (1, 4, 2, 8, 16, 3)))
    assert curve.seconds(10) == pytest.approx(3.0)
    assert curve.weight(3.0) == pytest.approx(10)
    assert curve.weight(0.25) == 0.0


def test_a_model_that_becomes_slower_is_followed() -> None:
    curve = measured(*((weight, weight * 0.1) for weight in (1, 2, 4) * 20))
    for weight in (1, 2, 4) * 40:
        curve.learn(weight, weight * 0.3)
    assert curve.seconds(4) == pytest.approx(1.2, rel=0.05)


def test_the_error_tells_how_far_estimates_were_off() -> None:
    steady = measured(*((8, 1.0) for _ in range(50)))
    noisy = measured(*((8, seconds) for seconds in (0.5, 1.5) * 25))
    assert steady.error == pytest.approx(0.0, abs=1e-9)
    assert 0.3 < noisy.error < 1.0


@given(runs=st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-6, 100)), min_size=1, max_size=60))
def test_neither_part_is_below_zero_and_the_mean_is_kept(runs: list[tuple[int, float]]) -> None:
    curve = measured(*runs)
    assert curve.base >= -1e-9 and curve.slope >= 0
    assert 0 <= curve.error <= 1
    assert curve.seconds(1) <= curve.seconds(10**6) + 1e-9


def test_one_accident_says_nothing_and_two_in_a_row_say_all() -> None:
    curve = measured(*((weight, 0.01 * weight) for weight in (1, 2, 4) * 10))
    curve.learn(2, 5.0)
    assert curve.seconds(2) == pytest.approx(0.02)
    curve.learn(2, 0.02)
    curve.learn(2, 5.0)
    assert curve.seconds(2) == pytest.approx(0.02)
    curve.learn(4, 5.0)
    assert curve.seconds(4) == pytest.approx(5.0)


def test_a_model_that_has_recovered_is_believed_after_two_runs() -> None:
    curve = measured(*((2, 5.0) for _ in range(30)))
    curve.learn(2, 0.01)
    curve.learn(2, 0.01)
    assert curve.seconds(2) == pytest.approx(0.01)


def test_the_first_large_batch_is_no_accident() -> None:
    curve = measured(*((1, 0.005) for _ in range(30)), (64, 0.320))
    assert curve.seconds(64) == pytest.approx(0.320, rel=0.2)


def test_what_happens_every_other_time_is_learned() -> None:
    curve = measured(*((2, seconds) for seconds in (0.01, 0.1) * 40))
    assert 0.02 < curve.seconds(2) < 0.1


def test_a_small_batch_is_worth_its_run_where_the_run_costs_little_by_itself() -> None:
    steep = measured(*((weight, 0.001 + 0.01 * weight) for weight in (1, 2, 4, 8, 16)))
    flat = measured(*((weight, 0.01 + 0.0001 * weight) for weight in (1, 2, 4, 8, 16)))
    assert steep.worth(64) < 1 and flat.worth(64) == pytest.approx(46, abs=2)
    assert measured((8, 1.0)).worth(64) == pytest.approx(51.2)
