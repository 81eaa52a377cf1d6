"""Loads while callers are served: beside what serves, swapped in, refused, taken back."""

import asyncio
from dataclasses import replace

import pytest
from tests.server.control.stage import KILLED, NBYTES, Stage, plugin

from mercato_server.contract.plugin import Refusal
from mercato_server.contract.state import State
from mercato_server.errors import (
    LoadFailed,
    LoadRefused,
    ModelFailed,
    NotFound,
    PluginRefused,
)
from mercato_server.serving.catalog import Version

TINY, OTHER = "mercato-tiny", "mercato-other"


def state(version: Version) -> State:
    """Asked anew each time."""
    return version.status.state


async def idle(stage: Stage) -> None:
    """Let what was replaced be unloaded."""
    await asyncio.gather(*stage.operator._tasks)


async def test_an_unchanged_model_that_serves_is_left_alone(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    version = stage.version("shop.tiny")
    [step] = await stage.load("shop.tiny")

    assert (step.model, step.version, step.state, step.digest) == ("shop.tiny", 1, State.AVAILABLE, version.digest)
    assert stage.version("shop.tiny") is version and version.status.state is State.AVAILABLE
    assert [host.is_closed for host in stage.hosts] == [False, True]


async def test_a_changed_model_is_swapped_in_and_the_old_one_finishes_what_it_accepted(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    old = stage.version("shop.tiny")
    gate = stage.hold("shop.tiny", "run")
    accepted = stage.submit("shop.tiny", 5)
    await gate.here()
    stage.install(stage.offer("shop.tiny", key="b"))
    steps = await stage.load("shop.tiny")
    new = stage.version("shop.tiny")

    assert [step.state for step in steps] == [State.LOADING, State.WARMING, State.AVAILABLE]
    assert new is not old and new.digest != old.digest == old.digest and steps[-1].digest == new.digest
    assert (state(old), old.status.reason) == (State.DRAINING, "it was loaded anew")
    assert [host.is_closed for host in stage.hosts] == [False, False] and stage.memory.used == 2 * NBYTES
    stage.let_go("shop.tiny", "run")
    assert (await accepted).outputs["y"].tolist() == [[10, 10]]
    assert await stage.ask("shop.tiny") == [[2, 2]]
    await idle(stage)

    assert state(old) is State.UNLOADED and state(new) is State.AVAILABLE
    assert [host.is_closed for host in stage.hosts] == [True, False] and stage.hosts[0].lanes[0].is_closed
    assert stage.memory.used == NBYTES and stage.settled == 1
    assert [worker.pid for worker in stage.operator.workers()] == [stage.hosts[1].pid]


async def test_callers_are_served_at_every_moment_of_a_load(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny", key="b"))
    seen: list[State] = []
    async for step in stage.operator.load(model="shop.tiny"):
        seen.append(step.state)
        assert await stage.ask("shop.tiny") == [[2, 2]]
    assert seen[-1] is State.AVAILABLE
    assert State.LOADING not in stage.states("shop.tiny")[4:]


async def test_another_number_serves_beside_the_old_one_until_it_is_unloaded(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    first = stage.version("shop.tiny")
    stage.install(stage.offer("shop.tiny", version=2, key="b"))
    await stage.load(plugin=TINY)

    assert stage.catalog.resolve("shop.tiny").number == 2
    assert stage.catalog.resolve("shop.tiny", number=1) is first
    unloaded = await stage.operator.unload("shop.tiny", 1)
    assert (unloaded.versions, unloaded.nbytes) == ([1], NBYTES)
    assert first.status.state is State.UNLOADED and stage.hosts[0].is_closed
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_plugin_that_is_new_is_added_and_its_refusal_forgotten(stage: Stage) -> None:
    stage.answers[OTHER] = PluginRefused("IMPORT_FAILED", "it was half installed")
    await stage.control.bring_up([plugin(OTHER)])
    assert [refusal.code for refusal in stage.catalog.refused] == ["IMPORT_FAILED"]
    stage.install(stage.offer("shop.other"))
    await stage.load(plugin="Mercato_Other")

    assert await stage.ask("shop.other") == [[2, 2]]
    assert stage.catalog.refused == []


@pytest.mark.parametrize("step", ["load", "warm"])
async def test_a_load_that_fails_leaves_all_as_it_was(stage: Stage, step: str) -> None:
    await stage.up(stage.offer("shop.tiny"))
    old, before = stage.version("shop.tiny"), stage.moves.copy()
    stage.install(stage.offer("shop.extra"), stage.offer("shop.tiny", key="b"), distribution=TINY)
    stage.failing["shop.tiny", step] = LoadFailed("its weights are torn")
    with pytest.raises(LoadRefused, match="'shop.tiny' version 1 was not loaded: its weights are torn; ") as caught:
        await stage.load(plugin=TINY)

    assert (caught.value.reason, caught.value.model) == ("LOAD_FAILED", "shop.tiny")
    assert stage.version("shop.tiny") is old and stage.moves == before and list(stage.catalog.models) == ["shop.tiny"]
    assert await stage.ask("shop.tiny") == [[2, 2]]
    assert [host.is_closed for host in stage.hosts] == [False, True]
    assert stage.memory.used == NBYTES


@pytest.mark.parametrize("step", ["load", "warm"])
async def test_a_version_that_fails_and_does_not_serve_takes_no_other_along(stage: Stage, step: str) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.extra"), stage.offer("shop.tiny", key="b"), distribution=TINY)
    stage.failing["shop.extra", step] = LoadFailed("its weights are torn")
    steps = await stage.load(plugin=TINY)

    told = {(step.model, step.state): step.reason for step in steps}
    assert told["shop.extra", State.FAILED] == "LOAD_FAILED: its weights are torn"
    assert ("shop.tiny", State.AVAILABLE) in told and ("shop.extra", State.AVAILABLE) not in told
    assert stage.version("shop.extra").status.reason == "LOAD_FAILED: its weights are torn"
    assert [model.model for model in stage.operator.workers()[-1].models] == ["shop.tiny"]
    assert await stage.ask("shop.tiny") == [[2, 2]]
    await idle(stage)
    assert stage.memory.used == NBYTES and stage.hosts[0].is_closed
    stage.failing.clear()
    await stage.load(plugin=TINY)
    assert await stage.ask("shop.extra") == [[2, 2]]


async def test_a_failure_that_takes_the_place_of_another_is_told_by_the_catalogue(stage: Stage) -> None:
    stage.failing["shop.extra", "load"] = LoadFailed("no room")
    offers = [stage.offer("shop.tiny"), stage.offer("shop.extra")]
    await stage.control.bring_up([stage.install(*offers, distribution=TINY)])
    old = stage.version("shop.extra")
    stage.install(stage.offer("shop.tiny", key="b"), offers[1], distribution=TINY)
    stage.failing["shop.extra", "load"] = LoadFailed("its weights are torn")
    await stage.load(plugin=TINY)
    await idle(stage)
    assert state(old) is State.UNLOADED
    assert stage.version("shop.extra").status.reason == "LOAD_FAILED: its weights are torn"
    assert (await stage.operator.unload("shop.extra", 1)).versions == [1]
    assert stage.hosts[0].is_closed and [worker.pid for worker in stage.operator.workers()] == [stage.hosts[1].pid]


async def test_a_version_that_is_started_again_is_not_taken_away_by_a_load_that_fails(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    version = stage.version("shop.tiny")
    stage.hosts[0].crash()
    await stage.clock.asleep()
    stage.install(stage.offer("shop.tiny", key="b"), stage.offer("shop.extra"), distribution=TINY)
    stage.failing["shop.tiny", "load"] = LoadFailed("its weights are torn")
    with pytest.raises(LoadRefused, match="its weights are torn"):
        await stage.load(plugin=TINY)
    assert stage.version("shop.tiny") is version and state(version) is State.LOADING


async def test_a_load_of_which_nothing_is_left_is_refused(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny"), stage.offer("shop.tiny", version=2))
    stage.failing["shop.tiny", "load"] = LoadFailed("its weights are torn")
    with pytest.raises(LoadRefused, match="'shop.tiny' version 2 was not loaded: its weights are torn; "):
        await stage.load("shop.tiny")
    assert list(stage.catalog.models["shop.tiny"]) == [1] and await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_version_that_takes_the_worker_along_refuses_the_load(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.extra"), stage.offer("shop.tiny", key="b"), distribution=TINY)
    gate = stage.hold("shop.extra", "load")
    loading = asyncio.ensure_future(stage.load(plugin=TINY))
    await gate.here()
    stage.hosts[1].crash()
    with pytest.raises(LoadRefused, match=f"'shop.extra' version 1 was not loaded: the worker {KILLED}"):
        await loading
    assert list(stage.catalog.models) == ["shop.tiny"] and await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_worker_that_ends_between_ready_and_swap_leaves_the_old_one_serving(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    old = stage.version("shop.tiny")
    stage.install(stage.offer("shop.tiny", key="b"), stage.offer("shop.extra"), distribution=TINY)
    gate = stage.hold("shop.extra", "warm")
    loading = asyncio.ensure_future(stage.load(plugin=TINY))
    await gate.here()
    stage.hosts[1].crash()
    with pytest.raises(LoadRefused, match=KILLED):
        await loading
    assert stage.version("shop.tiny") is old and await stage.ask("shop.tiny") == [[2, 2]]
    assert stage.clock.slept == [] and stage.hosts[1].is_closed


async def test_a_refused_import_is_told_with_its_code(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.answers[TINY] = PluginRefused("IMPORT_CRASHED", "mercato-tiny: the worker was ended by signal SIGSEGV")
    with pytest.raises(LoadRefused, match="SIGSEGV") as caught:
        await stage.load("shop.tiny")
    assert caught.value.reason == "IMPORT_CRASHED"
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_worker_that_cannot_be_started_is_a_refusal_of_the_load(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.answers[TINY] = OSError(24, "too many open files")
    with pytest.raises(LoadRefused, match="the worker of mercato-tiny could not be started: OSError; ") as caught:
        await stage.load("shop.tiny")
    assert caught.value.reason == "IMPORT_FAILED"
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_what_cannot_be_loaded_is_told(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    with pytest.raises(NotFound, match="there is no model 'shop.none'"):
        await stage.load("shop.none")
    with pytest.raises(NotFound, match="no distribution 'mercato-none' with a plugin is installed"):
        await stage.load(plugin="mercato-none")
    stage.kept_out = [Refusal(plugin(OTHER), "DENIED", "mercato-other is on the deny list")]
    with pytest.raises(LoadRefused, match="deny list"):
        await stage.load(plugin=OTHER)
    stage.kept_out = []
    stage.install(stage.offer("shop.tiny"), distribution=OTHER)
    with pytest.raises(LoadRefused, match="model names clash") as caught:
        await stage.load(plugin=OTHER)
    assert caught.value.reason == "NAME_CLASH"
    stage.install(stage.offer("shop.renamed"), distribution=TINY)
    with pytest.raises(LoadRefused, match="does not offer model 'shop.tiny' any more; it offers shop.renamed"):
        await stage.load("shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_renamed_entry_point_gives_its_models_to_the_new_one(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny", key="b"))
    stage.renamed[TINY] = replace(plugin(TINY), entry_point="other")
    with pytest.raises(LoadRefused, match="mercato-tiny has no entry point 'made' any more; load it with --plugin"):
        await stage.load("shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]
    await stage.load(plugin=TINY)
    assert await stage.ask("shop.tiny") == [[2, 2]]
    assert stage.version("shop.tiny").plugin.entry_point == "other"


async def test_inline_code_that_changed_on_disk_is_not_taken_for_what_runs(stage: Stage) -> None:
    stage.build("inline")
    await stage.up(stage.offer("shop.tiny"))
    await stage.operator.unload("shop.tiny", None)
    await stage.load("shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]
    stage.install(stage.offer("shop.tiny", key="b"))
    with pytest.raises(LoadRefused, match="source of mercato-tiny changed on disk; code that runs inline is imported"):
        await stage.load("shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_of_two_loads_of_one_plugin_the_second_waits(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny", key="b"))
    gate = stage.hold(TINY, "start")
    first, second = (asyncio.ensure_future(stage.load(plugin=TINY)) for _ in range(2))
    await gate.here()
    assert len(stage.hosts) == 2
    stage.let_go(TINY, "start")

    assert [step.state for step in await first] == [State.LOADING, State.WARMING, State.AVAILABLE]
    assert [step.state for step in await second] == [State.AVAILABLE]


async def test_a_load_waits_for_the_plugin_to_be_brought_up(stage: Stage) -> None:
    gate = stage.hold("shop.tiny", "load")
    bringing = asyncio.ensure_future(stage.up(stage.offer("shop.tiny")))
    await gate.here()
    loading = asyncio.ensure_future(stage.load("shop.tiny"))
    await asyncio.sleep(0)
    assert len(stage.hosts) == 1
    stage.let_go("shop.tiny", "load")
    await bringing
    assert [step.state for step in await loading] == [State.AVAILABLE]


async def test_an_operator_who_leaves_takes_the_load_back(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    old = stage.version("shop.tiny")
    stage.install(stage.offer("shop.tiny", key="b"))
    gate = stage.hold("shop.tiny", "warm")
    steps = stage.operator.load(model="shop.tiny")
    assert (await anext(steps)).state is State.LOADING
    await gate.here()
    await steps.aclose()  # type: ignore[attr-defined]

    assert stage.version("shop.tiny") is old and stage.hosts[1].is_closed and stage.memory.used == NBYTES


async def test_a_version_that_failed_can_be_loaded_again(stage: Stage) -> None:
    stage.failing["shop.tiny", "load"] = LoadFailed("no room")
    await stage.up(stage.offer("shop.tiny"))
    with pytest.raises(ModelFailed):
        stage.catalog.resolve("shop.tiny")
    stage.failing.clear()
    await stage.load("shop.tiny")
    await idle(stage)

    assert await stage.ask("shop.tiny") == [[2, 2]]
    assert [worker.pid for worker in stage.operator.workers()] == [stage.hosts[1].pid]


async def test_a_load_takes_over_from_a_worker_that_is_being_started_again(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    old = stage.version("shop.tiny")
    stage.hosts[0].crash()
    await stage.clock.asleep()
    await stage.load("shop.tiny")
    await idle(stage)
    stage.clock.advance(5)
    await asyncio.sleep(0)

    assert old.status.state is State.UNLOADED and len(stage.hosts) == 2
    assert await stage.ask("shop.tiny") == [[2, 2]]
    assert stage.memory.used == NBYTES
    [worker] = stage.operator.workers()
    assert worker.last_crash == KILLED


async def test_a_swapped_in_worker_is_supervised_with_a_budget_of_its_own(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    for key in "bcd":
        stage.install(stage.offer("shop.tiny", key=key))
        await stage.load("shop.tiny")
        await idle(stage)
        slept = len(stage.clock.slept)
        stage.hosts[-1].crash()
        assert await stage.clock.asleep(slept + 1) == pytest.approx(0.1)
        stage.clock.advance(1)
        await stage.until_state("shop.tiny", State.AVAILABLE)
    [worker] = stage.operator.workers()
    assert worker.restarts == 3
