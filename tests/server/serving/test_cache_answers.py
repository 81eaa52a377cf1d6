"""Answers of the cache: what is kept of a row, and how rows of several origins and their receipts become one."""

from typing import Any

import numpy as np
import pytest
from tests.server.serving.cache_puppet import ROW, Scene, numbers, outcome, told

from mercato_server.contract.receipt import CacheOutcome

HIT, MISS, COALESCED = CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.COALESCED


async def test_what_was_cut_on_arrival_is_told_to_that_caller_alone() -> None:
    s = Scene()
    cut, whole = s.ask(1, 2, truncations={"x": 1}), s.ask(1)
    assert s.started[0].request.truncations == {}
    assert s.started[0].request.inputs["x"].base is not None

    await s.finish()
    assert (cut.result().receipt.truncations, whole.result().receipt.truncations) == ({"x": 1}, {})
    known = s.ask(2, 1, truncations={"x": 2})
    assert outcome(known) == (HIT, 2)
    assert known.result().receipt.truncations == {"x": 2}


async def test_what_a_run_has_cut_is_remembered_with_the_row() -> None:
    s = Scene()
    await s.known(1, truncations={"x": 1})
    await s.known(2)
    s.ask(3, 4)
    await s.finish(truncations={"x": 2, "t": 0})
    counted = s.ask(1, 2, 3, truncations={"x": 1, "z": 1}).result()

    assert counted.receipt.truncations == {"x": 2, "z": 1}
    partial = s.ask(1, 2, 5)
    await s.finish(truncations={"x": 1})
    assert partial.result().receipt.truncations == {"x": 2}


async def test_rows_of_a_run_are_not_kept_when_nobody_knows_which_were_cut() -> None:
    s = Scene()
    first, same, part = s.ask(1, 2), s.ask(1, 2), s.ask(2)
    await s.finish(truncations={"x": 1})

    assert [told(future) for future in (first, same)] == [[10, 20]] * 2
    assert [future.result().receipt.truncations for future in (first, same)] == [{"x": 1}] * 2
    assert len(s.cache) == 0 and s.ids == [[1, 2], [2]]
    await s.finish(truncations={"x": 1})
    assert (outcome(part), len(s.cache)) == ((MISS, 0), 1)


async def test_a_request_with_equal_rows_is_run_whole_when_nobody_knows_which_were_cut() -> None:
    s = Scene()
    future = s.ask(1, 2, 1)
    await s.finish(truncations={"x": 1})
    assert s.ids == [[1, 2], [1, 2, 1]]

    await s.finish(truncations={"x": 2}, started_ns=6)
    assert (told(future), outcome(future)) == ([10, 20, 10], (MISS, 0))
    assert (future.result().receipt.truncations, future.result().receipt.batches) == ({"x": 2}, 2)


async def test_a_request_that_is_run_whole_waits_for_nobody_else() -> None:
    s = Scene()
    s.ask(3)
    future = s.ask(1, 2, 1, 3)
    await s.finish(1, truncations={"x": 1})
    await s.finish(2, truncations={"x": 2})

    assert s.ids == [[3], [1, 2], [1, 2, 1, 3]]
    assert told(future) == [10, 20, 10, 30]


async def test_rows_of_different_shape_are_run_together_once_more() -> None:
    s = Scene()
    await s.known(1)
    s.ask(2)
    await s.finish(outputs={"y": np.array([[20.0, 0.0]])})
    s.started.clear()
    future = s.ask(2, 1, 3)
    await s.finish()
    assert s.ids == [[3], [2, 1, 3]]

    await s.finish()
    assert (told(future), outcome(future)) == ([20, 10, 30], (MISS, 0))
    assert outcome(s.ask(1, 2, 3)) == (HIT, 3)
    assert (len(s.cache), s.cache.nbytes) == (3, 3 * ROW)


async def test_rows_of_different_shape_that_are_all_known_are_run_at_once() -> None:
    s = Scene()
    await s.known(1)
    s.ask(2)
    await s.finish(outputs={"y": np.array([[20]])})
    future = s.ask(1, 2)
    await s.finish()

    assert (told(future), outcome(future)) == ([10, 20], (MISS, 0))


async def test_the_receipt_of_several_runs_counts_each_batch_once() -> None:
    s = Scene()
    s.ask(1), s.ask(2), s.ask(3)
    future = s.ask(1, 2, 3)
    await s.finish(0, started_ns=1, queue_ns=1, pre_ns=10, batch_rows=3, padding=0.2)
    await s.finish(1, started_ns=1, queue_ns=7, pre_ns=10, batch_rows=3, padding=0.2)
    await s.finish(2, started_ns=2, queue_ns=4, pre_ns=20, batch_rows=1, padding=0.6)
    receipt = future.result().receipt

    assert outcome(future) == (COALESCED, 3)
    assert (receipt.queue_ns, receipt.pre_ns, receipt.compute_ns, receipt.post_ns) == (7, 30, 6, 8)
    assert (receipt.batch_rows, receipt.batches, round(receipt.padding, 9)) == (3, 0, 0.3)


async def test_only_the_wanted_outputs_are_kept() -> None:
    s = Scene()
    s.ask(1, outputs=("z",))
    await s.finish(outputs={"y": np.zeros((1, 9)), "z": np.array([7.0])})
    known = s.ask(1, outputs=("z",)).result()

    assert {name: numbers(array) for name, array in known.outputs.items()} == {"z": [7]}


@pytest.mark.parametrize(("values", "nbytes"), [([1.0, 2.0], 16), (["né", b"abc"], 64 * 2 + 3 + 3)])
async def test_rows_are_kept_as_they_were(values: list[Any], nbytes: int) -> None:
    s = Scene()
    y = np.array([values], object if isinstance(values[0], str) else None)
    s.ask(1)
    await s.finish(outputs={"y": y})
    known = s.ask(1).result().outputs["y"]

    assert (known.tolist(), known.dtype, known.shape) == ([values], y.dtype, (1, 2))
    assert s.cache.nbytes == 512 + 128 + nbytes


async def test_kept_rows_are_copies_that_nobody_can_write() -> None:
    s = Scene()
    memory = np.array([[10.0], [20.0], [30.0]])
    futures = [s.ask(1, 2), s.ask(1, 2)]
    await s.finish(outputs={"y": memory[:2]})
    shared = [future.result().outputs["y"] for future in futures]
    memory[:] = 0
    assert futures[0].result().outputs is not futures[1].result().outputs
    known = s.ask(1).result().outputs["y"]

    assert numbers(known) == [10] and known.base is not None and known.base.nbytes == 8
    for array in (known, *shared):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        known.flags.writeable = True
    s.ask(2, 1).result().outputs["y"][:] = 1
    assert told(s.ask(2, 1)) == [20, 10]
