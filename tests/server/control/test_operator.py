"""What an operator asks besides loads: unloads, labels, the end of the server; and the limit of memory."""

import asyncio
from dataclasses import replace

import pytest
from tests.server.control.stage import NBYTES, PATIENCE, Stage, plugin

from mercato_server.contract.state import State
from mercato_server.errors import Draining, InvalidRequest, LabelHolds, LabelRefused, LoadRefused, NotFound
from mercato_server.serving.admission import Callers, Permit
from mercato_server.serving.catalog import Version

TINY, OTHER = "mercato-tiny", "mercato-other"


def state(version: Version) -> State:
    """Asked anew each time."""
    return version.status.state


async def test_unloading_gives_the_memory_back_and_loading_brings_it_again(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"), stage.offer("shop.other"))
    unloaded = await stage.operator.unload("shop.tiny", None)

    assert (list(unloaded.versions), unloaded.nbytes) == ([1], NBYTES)
    assert stage.states("shop.tiny")[-2:] == [State.DRAINING, State.UNLOADED]
    assert stage.hosts[0].is_closed and stage.memory.used == NBYTES
    assert [worker.plugin.distribution for worker in stage.operator.workers()] == [OTHER]
    with pytest.raises(Draining, match="is UNLOADED"):
        stage.catalog.resolve("shop.tiny")
    assert list((await stage.operator.unload("shop.tiny", None)).versions) == []
    with pytest.raises(NotFound):
        await stage.operator.unload("shop.tiny", 9)
    await stage.load("shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]
    assert stage.version("shop.tiny").nbytes == NBYTES


async def test_a_worker_lives_as_long_as_one_of_its_versions(stage: Stage) -> None:
    first, second = stage.offer("shop.tiny"), replace(stage.offer("shop.big"), plugin=plugin(TINY))
    await stage.control.bring_up([stage.install(first, second)])
    await stage.operator.unload("shop.tiny", 1)

    assert {lane.model: lane.is_closed for lane in stage.hosts[0].lanes} == {"shop.tiny": True, "shop.big": False}
    assert [host.is_closed for host in stage.hosts] == [False]
    assert await stage.ask("shop.big") == [[2, 2]]
    await stage.operator.unload("shop.big", 1)
    assert [host.is_closed for host in stage.hosts] == [True]
    assert stage.operator.workers() == [] and stage.memory.used == 0


async def test_a_model_beyond_the_memory_limit_is_refused_and_undone(stage: Stage) -> None:
    stage.build(limit=3 << 20)
    stage.nbytes = 2 << 20
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny", key="b"))
    with pytest.raises(LoadRefused, match="memory_limit") as caught:
        await stage.load("shop.tiny")
    assert caught.value.reason == "MEMORY_EXCEEDED"
    assert stage.memory.used == 2 << 20
    await stage.operator.unload("shop.tiny", None)
    await stage.load("shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_model_that_does_not_fit_at_the_start_fails(stage: Stage) -> None:
    stage.build(limit=3 << 20)
    stage.nbytes = 4 << 20
    await stage.up(stage.offer("shop.tiny"))
    assert stage.version("shop.tiny").status.reason.startswith("MEMORY_EXCEEDED: model 'shop.tiny' was measured to")
    assert stage.memory.used == 0 and stage.hosts[0].is_closed


async def test_labels_move_to_available_versions_only(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny", version=2, key="b"))
    await stage.load(plugin=TINY)
    assert stage.operator.set_label("shop.tiny", "stable", 1) == {"stable": 1}
    assert stage.catalog.resolve("shop.tiny").number == 1
    assert stage.operator.set_label("shop.tiny", "canary", 2) == {"stable": 1, "canary": 2}
    with pytest.raises(LabelHolds, match="label 'canary' of model 'shop.tiny' means version 2; move or remove"):
        await stage.operator.unload("shop.tiny", 2)
    assert stage.operator.set_label("shop.tiny", "canary", 1) == {"stable": 1, "canary": 1}
    await stage.operator.unload("shop.tiny", 2)
    with pytest.raises(LabelRefused, match="version 2 is UNLOADED; labels move to AVAILABLE versions"):
        stage.operator.set_label("shop.tiny", "stable", 2)
    with pytest.raises(NotFound):
        stage.operator.set_label("shop.tiny", "stable", 3)
    with pytest.raises(InvalidRequest):
        stage.operator.set_label("shop.tiny", "No Label", 1)
    assert stage.operator.set_label("shop.tiny", "canary", None) == {"stable": 1}
    with pytest.raises(NotFound, match="no label 'canary'"):
        stage.operator.set_label("shop.tiny", "canary", None)


async def test_draining_is_asked_for_and_counts_what_is_open(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    engine = stage.version("shop.tiny").engine
    assert engine is not None
    Permit((engine.pool,), Callers(), "", 10)
    assert stage.operator.drain() == 1
    assert stage.stops == 1


async def test_a_server_that_stops_takes_loads_back_and_begins_no_other(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny", key="b"))
    gate = stage.hold("shop.tiny", "warm")
    loading = asyncio.ensure_future(stage.load("shop.tiny"))
    await gate.here()
    await stage.operator.close()
    with pytest.raises(asyncio.CancelledError):
        await loading
    with pytest.raises(Draining):
        await stage.load("shop.tiny")
    with pytest.raises(Draining):
        await stage.operator.unload("shop.tiny", None)
    await stage.control.drain(1)
    assert all(host.is_closed for host in stage.hosts)
    assert stage.version("shop.tiny").status.state is State.UNLOADED


async def test_the_end_of_the_server_finishes_what_a_replaced_version_accepted(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    old = stage.version("shop.tiny")
    gate = stage.hold("shop.tiny", "run")
    accepted = stage.submit("shop.tiny", 5)
    await gate.here()
    stage.install(stage.offer("shop.tiny", key="b"))
    await stage.load("shop.tiny")
    await stage.operator.close()
    draining = asyncio.ensure_future(stage.control.drain(10))
    await asyncio.sleep(0)
    assert not draining.done() and state(old) is State.DRAINING
    stage.let_go("shop.tiny", "run")
    await draining

    assert (await accepted).outputs["y"].tolist() == [[10, 10]]
    assert state(old) is State.UNLOADED and all(host.is_closed for host in stage.hosts)


async def test_unloading_does_not_wait_for_a_batch_that_hangs(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    gate = stage.hold("shop.tiny", "run")
    stuck = stage.submit("shop.tiny")
    await gate.here()
    unloading = asyncio.ensure_future(stage.operator.unload("shop.tiny", 1))
    await stage.until_state("shop.tiny", State.DRAINING)
    stage.control.retirement.hurry.set()

    assert list((await unloading).versions) == [1]
    with pytest.raises(Draining, match="unloaded by an operator; the server did not wait for this request any longer"):
        await stuck
    assert [host.is_closed for host in stage.hosts] == [True]
    assert not stage.hosts[0].lanes[0].is_closed


async def test_a_version_that_is_unloaded_while_it_is_loaded_again_stays_unloaded(stage: Stage) -> None:
    first, second = stage.offer("shop.tiny"), replace(stage.offer("shop.big"), plugin=plugin(TINY))
    await stage.control.bring_up([stage.install(first, second)])
    stage.hosts[0].crash()
    await stage.clock.asleep()
    gate = stage.hold("shop.tiny", "load")
    stage.clock.advance(1)
    await gate.here()
    await stage.operator.unload("shop.tiny", 1)
    stage.let_go("shop.tiny", "load")
    await stage.until_state("shop.big", State.AVAILABLE)

    assert stage.version("shop.tiny").status.state is State.UNLOADED
    assert {lane.model: lane.is_closed for lane in stage.hosts[1].lanes} == {"shop.tiny": True, "shop.big": False}
    assert stage.memory.used == NBYTES
    [worker] = stage.operator.workers()
    assert [model.model for model in worker.models] == ["shop.big"]


async def stuck_beside(stage: Stage) -> None:
    """A model whose batch hangs, and whose lane cannot be closed for that, beside another of the same plugin."""
    first, second = stage.offer("shop.tiny"), replace(stage.offer("shop.big"), plugin=plugin(TINY))
    await stage.control.bring_up([stage.install(first, second)])
    gate = stage.hold("shop.tiny", "run")
    stage.hold("shop.tiny", "close")
    stage.submit("shop.tiny")
    await gate.here()


async def test_unloading_leaves_behind_what_hangs_beside_a_model_that_serves(stage: Stage) -> None:
    await stuck_beside(stage)
    stage.operator._drain_seconds = 0.01
    async with asyncio.timeout(PATIENCE):
        assert list((await stage.operator.unload("shop.tiny", 1)).versions) == [1]
    assert state(stage.version("shop.tiny")) is State.UNLOADED
    assert await stage.ask("shop.big") == [[2, 2]]
    assert stage.memory.used == 2 * NBYTES, "what hangs still holds its memory"
    async with asyncio.timeout(PATIENCE):
        await stage.load("shop.tiny")
    stage.let_go("shop.tiny", "close")
    await asyncio.gather(*stage.control.retirement._closing)
    assert stage.memory.used == 2 * NBYTES


async def test_the_end_of_the_server_closes_no_lane_of_a_process_that_ends(stage: Stage) -> None:
    await stuck_beside(stage)
    async with asyncio.timeout(PATIENCE):
        await stage.control.drain(0.01)
    assert stage.hosts[0].is_closed and not any(lane.is_closed for lane in stage.hosts[0].lanes)


async def test_hurrying_ends_an_unload_whose_lane_does_not_close(stage: Stage) -> None:
    await stuck_beside(stage)
    stage.let_go("shop.tiny", "run")
    unloading = asyncio.ensure_future(stage.operator.unload("shop.tiny", 1))
    await stage.gates["shop.tiny", "close"].here()
    stage.control.retirement.hurry.set()
    async with asyncio.timeout(PATIENCE):
        await unloading


async def test_hurrying_ends_workers_at_once(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"), stage.offer("shop.other"))
    closing = stage.hold(TINY, "close")
    draining = asyncio.ensure_future(stage.control.drain(1000))
    await closing.here()
    assert not stage.host(TINY).ended_at_once
    stage.control.retirement.hurry.set()
    while not stage.host(TINY).ended_at_once:  # noqa: ASYNC110  (a few turns of the loop later)
        await asyncio.sleep(0)
    stage.let_go(TINY, "close")
    await draining
