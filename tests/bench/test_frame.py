"""Shows that the frame of the benchmarks compares its two sides within each round, and bounds a load by its rate."""

import asyncio
import json
import time

import pytest
from bench import frame
from bench.frame import Figure
from bench.load import drive, pace
from bench.pricing import verify_values
from bench.report import Spread

RATIO: dict[str, Figure[float]] = {"ratio": Figure("ours by theirs", 1, lambda ours, theirs: ours / theirs)}


def test_a_ratio_is_taken_within_each_round_before_the_median() -> None:
    case = frame.case("one", [(2.0, 1.0), (30.0, 10.0), (4.0, 4.0)], RATIO)
    assert case.figures == {"ratio": Spread(2.0, 1.0, 3.0)}
    assert case.rounds == {"ratio": [2.0, 3.0, 1.0]}


@pytest.mark.parametrize("as_json", [True, False])
def test_figures_are_printed_as_a_table_or_as_one_object(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    frame.show("some", "What it measures.", [frame.case("one", [(2.0, 1.0)], RATIO)], RATIO, as_json=as_json)
    printed = capsys.readouterr().out
    if as_json:
        [case] = json.loads(printed)["some"]
        assert (case["case"], case["figures"]["ratio"]["median"]) == ("one", 2.0)
    else:
        assert "ours by theirs" in printed and "2.0 (2.0 to 2.0)" in printed


def test_arguments_have_the_defaults_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--rounds", "2"])
    asked = frame.arguments("What it measures.", rounds=9, of="two sides", calls=(6000, "calls per round"))
    assert (asked.rounds, asked.calls, asked.store, asked.json) == (2, 6000, None, False)


async def test_a_load_has_no_more_calls_in_flight_than_asked_and_keeps_the_order_of_answers() -> None:
    flying = most = 0

    async def call(payload: bytes) -> bytes:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return payload

    load = await drive(call, [b"a", b"b", b"c"], calls=7, in_flight=2)
    assert (most, load.answers) == (2, [b"a", b"b", b"c", b"a", b"b", b"c", b"a"])


async def test_a_paced_load_ends_by_itself_and_counts_calls_from_when_they_were_due() -> None:
    async def call(payload: bytes) -> bytes:
        begin = time.perf_counter()
        while time.perf_counter() < begin + 0.002:  # the caller itself is held back, so that the next call is late
            pass
        return payload

    calls = await pace(call, [b"a"], rate=1000, stop=asyncio.Event(), seconds=0.02)
    assert [round((each.due - calls[0].due) * 1000) for each in calls] == list(range(20))
    assert calls[-1].ended - calls[-1].due > 0.01


def test_an_answer_that_is_not_twice_its_x_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"call 1: got y = 0.5 for x = 0.125, expected 2x within 0.02"):
        verify_values([0.0, 0.5])
