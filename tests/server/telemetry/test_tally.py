"""The numbers behind the metrics: what each counts, and that a reader on another thread never trips over a writer."""

import threading

import pytest

from mercato_server.telemetry.tally import BatchTally, Histogram, RequestTally

METHOD = "mercato.v1.PredictionService/Predict"


def test_a_bucket_holds_its_upper_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5, 1e9):
        histogram.observe(value)
    assert histogram.counts() == [2, 2, 2]
    assert histogram.total == pytest.approx(1e9 + 7.5)


def test_requests_are_told_apart_by_method_model_version_and_code() -> None:
    tally = RequestTally()
    for version, code in ((1, "OK"), (1, "OK"), (2, "OK"), (1, "INTERNAL")):
        tally.count(METHOD, "shop.tiny", version, code, 0.002)
    assert tally.counts() == {
        (METHOD, "shop.tiny", 1, "OK"): 2,
        (METHOD, "shop.tiny", 2, "OK"): 1,
        (METHOD, "shop.tiny", 1, "INTERNAL"): 1,
    }
    assert sum(tally.seconds()[METHOD, "shop.tiny"].counts()) == 4


def test_the_queue_is_counted_by_request_and_the_rest_by_batch() -> None:
    tally = BatchTally()
    tally.release("IDLE")
    tally.ran([1_000_000, 3_000_000], (1_000_000, 2_000_000, 4_000_000), rows=5, padding=0.25)
    assert sum(tally.queue.counts()) == 2
    assert tally.queue.total == pytest.approx(0.004)
    totals = {phase: spent.total for phase, spent in tally.phases.items()}
    assert totals == pytest.approx({"preprocess": 0.001, "compute": 0.002, "postprocess": 0.004})
    assert (tally.rows.total, tally.padding.total, tally.released()) == (5, 0.25, {"IDLE": 1})


def test_a_reader_on_another_thread_meets_no_half_grown_table() -> None:
    tally, end = RequestTally(), threading.Event()
    sizes: list[int] = []

    def read() -> None:
        while not end.is_set():
            sizes.append(len([*tally.counts().items(), *tally.seconds().items()]))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20_000):
        tally.count(METHOD, f"shop.m{number}", 1, "OK", 0.0)
    end.set()
    reader.join()
    assert sizes == sorted(sizes)
