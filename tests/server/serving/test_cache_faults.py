"""The cache when something raises that nobody foresaw: whoever waits is told, and nothing is left behind."""

import logging

import numpy as np
import pytest
from tests.server.serving.cache_puppet import ROW, Scene, request, told
from tests.server.serving.puppet import settle

from mercato_server.contract.receipt import CacheOutcome
from mercato_server.errors import InvalidRequest, PluginFault


@pytest.mark.parametrize(("item", "nbytes"), [("a\ud800", 4), (None, 0), (7, 0)])
async def test_an_item_that_is_no_proper_text_is_kept_too(item: object, nbytes: int) -> None:
    s = Scene()
    future = s.ask(1)
    await s.finish(outputs={"y": np.array([[item]], object)})

    assert future.result().outputs["y"].tolist() == [[item]] == s.ask(1).result().outputs["y"].tolist()
    assert s.cache.nbytes == ROW - 8 + 64 + nbytes


async def test_whoever_waits_for_outputs_that_cannot_be_cut_up_is_told(caplog: pytest.LogCaptureFixture) -> None:
    s = Scene()
    futures = [s.ask(1, 2), s.ask(1, 2), s.ask(2, 3)]
    await s.finish(0, outputs={"y": np.array(5.0)})
    errors = [future.exception() for future in futures]

    assert all(isinstance(error, PluginFault) for error in errors) and len(set(map(id, errors))) == 3
    assert len({str(error) for error in errors}) == 1 and "'shop.tiny'" in str(errors[0])
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info and record.exc_info[0] is IndexError
    facts = vars(record)
    assert isinstance(errors[0], PluginFault) and (facts["model"], facts["fault"]) == ("shop.tiny", errors[0].id)
    s.ask(1)
    assert s.started[1].end.cancelled() and s.ids == [[1, 2], [3], [1]]


async def test_what_goes_wrong_with_one_answer_is_not_told_to_others() -> None:
    s = Scene()
    first, second = s.ask(1), s.ask(2)
    both, other = s.ask(1, 2), s.ask(2)
    await s.finish(0, outputs={"y": np.zeros((1, 1))})
    await s.finish(1, outputs={"z": np.zeros((1, 1))})

    assert isinstance(both.exception(), PluginFault)
    assert first.done() and list(second.result().outputs) == list(other.result().outputs) == ["z"]


async def test_who_waited_is_told_when_what_it_needs_cannot_be_run_any_more() -> None:
    s = Scene()
    s.ask(1), s.ask(4)
    futures = [s.ask(1, 4, 5), s.ask(1)]
    s.refusal = ValueError("told to")
    await s.fail(InvalidRequest.of("inputs.x[0]", "too large", model="shop.tiny"), 0)

    assert all(isinstance(future.exception(), PluginFault) for future in futures)
    assert [run.end.cancelled() for run in s.started] == [False, False, True]


async def test_a_call_that_cannot_be_run_leaves_nothing_behind() -> None:
    s = Scene()
    await s.known(3)
    first = s.ask(1)
    s.refusal = ValueError("told to")
    call = s.cache.begin(request(1, 2, 3))
    with pytest.raises(ValueError, match="told to"):
        s.cache.run(call)
    assert call.future.cancelled() and not call.runs

    first.cancel()
    await settle()
    assert s.started[0].end.cancelled()
    s.refusal = None
    again = s.ask(2)
    await s.finish()
    assert (told(again), again.result().receipt.cache) == ([20], CacheOutcome.MISS)
