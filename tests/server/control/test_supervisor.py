"""Workers that crash: what is told meanwhile, when they are started again, and when no more."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.control.stage import KILLED, NBYTES, PATIENCE, Gate, Stage

from mercato_server.contract.host import Host
from mercato_server.contract.plugin import Offer, Trained
from mercato_server.contract.state import State
from mercato_server.errors import LoadFailed, ModelFailed, ModelNotReady, PluginRefused, WorkerCrashed


async def crashed(stage: Stage, name: str = "mercato-tiny") -> float:
    """Kill a distribution's worker; gives the pause before the next start."""
    slept = len(stage.clock.slept)
    stage.host(name).crash()
    return await stage.clock.asleep(slept + 1)


async def restarted(stage: Stage, *names: str) -> None:
    stage.clock.advance(5)
    for name in names:
        await stage.until_state(name, State.AVAILABLE)


async def test_a_crash_takes_a_model_out_until_its_worker_runs_again(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"), stage.offer("shop.other"))
    version = stage.version("shop.tiny")
    parts = version.engine, version.digest
    assert await crashed(stage) == pytest.approx(0.1)

    assert version.status.state is State.LOADING
    assert version.status.reason == f"the worker of mercato-tiny {KILLED} and is started again"
    with pytest.raises(ModelNotReady, match="LOADING; retry"):
        stage.catalog.resolve("shop.tiny")
    assert await stage.ask("shop.other") == [[2, 2]]
    assert len(stage.hosts) == 2 and stage.hosts[0].is_closed
    assert stage.memory.used == NBYTES
    await restarted(stage, "shop.tiny")

    assert (version.engine, version.digest) == parts
    assert await stage.ask("shop.tiny", 3) == [[6, 6]]
    assert stage.states("shop.tiny")[-4:] == [State.AVAILABLE, State.LOADING, State.WARMING, State.AVAILABLE]
    assert version.status.reason == "auto fell back" and stage.memory.used == 2 * NBYTES
    [other, tiny] = stage.operator.workers()
    assert (tiny.restarts, tiny.last_crash, tiny.pid) == (1, KILLED, stage.hosts[-1].pid)
    assert (other.restarts, other.last_crash, [model.nbytes for model in other.models]) == (0, "", [NBYTES])


async def test_a_worker_that_is_started_again_is_offered_what_sits_there_and_nothing_else(stage: Stage) -> None:
    trained = Trained(Path("files"), "d" * 64, {})
    stage.failing["shop.extra", "load"] = LoadFailed("its weights are torn")
    own, *offers = (stage.offer(name) for name in ("shop.own", "shop.tiny", "shop.extra"))
    offers = [own, *(replace(offer, trained=trained) for offer in offers)]
    await stage.control.bring_up([stage.install(*offers, distribution="mercato-tiny")])
    await crashed(stage)
    await restarted(stage, "shop.tiny", "shop.own")
    assert (stage.hosts[1].kept, stage.hosts[1].is_alone) == ({("shop.tiny", 1)}, True)


async def test_what_is_in_flight_and_queued_fails_and_is_never_run_again(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    gate = stage.hold("shop.tiny", "run")
    running = stage.submit("shop.tiny")
    await gate.here()
    queued = stage.submit("shop.tiny")
    await crashed(stage)
    for future in (running, queued):
        with pytest.raises(WorkerCrashed):
            await future
    stage.gates.clear()
    await restarted(stage, "shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_the_budget_fails_its_models_with_the_reason_and_the_way_out(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"), stage.offer("shop.other"))
    assert await crashed(stage) == pytest.approx(0.1)
    await restarted(stage, "shop.tiny")
    assert await crashed(stage) == pytest.approx(0.2)
    await restarted(stage, "shop.tiny")
    stage.host("mercato-tiny").crash()
    version = await stage.until_state("shop.tiny", State.FAILED)

    assert version.status.reason == (
        f"WORKER_CRASHED: the worker of mercato-tiny ended 3 times within 60 s, last: {KILLED}; "
        "`mercato admin load --plugin mercato-tiny` tries again"
    )
    with pytest.raises(ModelFailed):
        stage.catalog.resolve("shop.tiny")
    assert await stage.ask("shop.other") == [[2, 2]]
    await asyncio.sleep(0)
    assert stage.memory.used == NBYTES and stage.host("mercato-tiny").is_closed
    [_, tiny] = stage.operator.workers()
    assert (tiny.pid, tiny.nbytes, tiny.restarts) == (0, 0, 2)


async def test_crashes_far_apart_are_forgiven(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    for _ in range(5):
        assert await crashed(stage) == pytest.approx(0.1)
        await restarted(stage, "shop.tiny")
        stage.clock.advance(60)


async def both(stage: Stage) -> tuple[Offer, Offer]:
    """Two models of one plugin."""
    first, second = stage.offer("shop.tiny"), stage.offer("shop.big")
    second = replace(second, plugin=first.plugin)
    plugin = stage.install(first, second)
    await stage.control.bring_up([plugin])
    return first, second


async def fall(stage: Stage, place: str) -> float:
    """Let the next worker start, long after, and kill it while shop.tiny is at this place; gives the pause."""
    gate = stage.hold("shop.tiny", place)
    stage.clock.advance(100)
    await gate.here()
    stage.gates.clear()
    return await crashed(stage)


@pytest.mark.parametrize("place", ["load", "warm"])
async def test_a_crash_while_a_version_is_loaded_again_is_forgiven_once(stage: Stage, place: str) -> None:
    await both(stage)
    await crashed(stage)
    assert await fall(stage, place) == pytest.approx(0.1)
    assert stage.version("shop.tiny").status.state is State.LOADING
    await restarted(stage, "shop.tiny", "shop.big")
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_version_that_is_loaded_again_in_two_workers_that_end_fails_and_not_the_other(stage: Stage) -> None:
    await both(stage)
    await crashed(stage)
    await fall(stage, "load")
    await fall(stage, "load")

    assert stage.version("shop.tiny").status.reason == f"LOAD_FAILED: the worker {KILLED} while shop.tiny was loaded"
    assert stage.version("shop.big").status.state is State.LOADING
    await restarted(stage, "shop.big")
    assert stage.version("shop.tiny").status.state is State.FAILED
    assert [lane.model for lane in stage.hosts[-1].lanes] == ["shop.big"]


async def test_a_crash_at_the_first_load_fails_that_version_and_the_others_come_up_in_a_fresh_worker(
    stage: Stage,
) -> None:
    gate = stage.hold("shop.tiny", "warm")
    bringing = asyncio.ensure_future(both(stage))
    await gate.here()
    stage.gates.clear()
    await crashed(stage)
    stage.clock.advance(1)
    await bringing

    assert stage.version("shop.tiny").status.reason == f"LOAD_FAILED: the worker {KILLED} while shop.tiny was loaded"
    await stage.until_state("shop.big", State.AVAILABLE)
    assert await stage.ask("shop.big") == [[2, 2]]


async def test_a_load_that_waits_for_its_turn_goes_on_in_the_next_worker(stage: Stage) -> None:
    gates = {name: stage.hold(name, "load") for name in ("shop.tiny", "shop.big")}
    bringing = asyncio.ensure_future(both(stage))
    reached = [asyncio.ensure_future(gate.reached.wait()) for gate in gates.values()]
    await asyncio.wait(reached, return_when=asyncio.FIRST_COMPLETED)
    await stage.until(lambda: all(stage.version(name).status.state is State.LOADING for name in gates))
    [first] = [name for name, gate in gates.items() if gate.reached.is_set()]
    [second] = gates.keys() - {first}
    stage.gates.clear()
    await crashed(stage)
    stage.clock.advance(1)
    await bringing

    assert stage.version(first).status.state is State.FAILED
    assert stage.version(second).status.state is State.AVAILABLE
    reached[list(gates).index(second)].cancel()


async def test_a_worker_that_nobody_needs_is_not_started_again(stage: Stage) -> None:
    gate = stage.hold("shop.tiny", "load")
    bringing = asyncio.ensure_future(stage.up(stage.offer("shop.tiny")))
    await gate.here()
    stage.host("mercato-tiny").crash()
    await bringing
    stage.clock.advance(5)
    await asyncio.sleep(0)

    assert stage.version("shop.tiny").status.state is State.FAILED
    assert len(stage.hosts) == 1 and stage.hosts[0].is_closed and stage.memory.used == 0


async def test_a_plugin_that_changed_on_disk_is_not_slipped_in(stage: Stage) -> None:
    first, second = await both(stage)
    await crashed(stage)
    stage.install(replace(first, key="f" * 64), second)
    await restarted(stage, "shop.big")

    assert stage.version("shop.tiny").status.reason == (
        "LOAD_FAILED: the plugin changed on disk; load it with mercato admin load --plugin mercato-tiny, "
        "and move labels to the version that it offers now"
    )


async def test_a_worker_into_which_nothing_loads_again_is_ended(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.failing["shop.tiny", "warm"] = LoadFailed("the disk is full")
    await crashed(stage)
    stage.clock.advance(1)
    await stage.until_state("shop.tiny", State.FAILED)
    while not stage.hosts[1].is_closed:  # noqa: ASYNC110  (a few turns of the loop later)
        await asyncio.sleep(0)
    [worker] = stage.operator.workers()
    assert (worker.pid, worker.restarts) == (0, 1)


@pytest.mark.parametrize("code", ["IMPORT_CRASHED", "IMPORT_TIMEOUT"])
async def test_an_import_that_crashes_or_hangs_counts_and_any_other_refusal_is_final(stage: Stage, code: str) -> None:
    offer = stage.offer("shop.tiny")
    await stage.up(offer)
    await crashed(stage)
    stage.answers["mercato-tiny"] = PluginRefused(code, "it did not come")
    slept = len(stage.clock.slept)
    stage.clock.advance(1)
    assert await stage.clock.asleep(slept + 1) == pytest.approx(0.2)
    assert stage.version("shop.tiny").status.state is State.LOADING
    stage.answers["mercato-tiny"] = PluginRefused("IMPORT_FAILED", "a syntax error")
    stage.clock.advance(1)
    await stage.until_state("shop.tiny", State.FAILED)
    assert stage.version("shop.tiny").status.reason == "IMPORT_FAILED: a syntax error"


async def test_a_version_that_does_not_load_again_fails_alone(stage: Stage) -> None:
    await both(stage)
    stage.failing["shop.tiny", "load"] = LoadFailed("the disk is full")
    await crashed(stage)
    await restarted(stage, "shop.big")
    assert stage.version("shop.tiny").status.reason == "LOAD_FAILED: the disk is full"
    assert stage.memory.used == NBYTES


async def test_no_worker_is_started_again_while_the_server_stops(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    await crashed(stage)
    await stage.control.drain(1)
    stage.clock.advance(5)
    await asyncio.sleep(0)
    assert len(stage.hosts) == 1


async def test_a_supervisor_that_fails_itself_says_so_and_fails_the_models(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(plugin: object) -> Host:
        raise ZeroDivisionError

    await stage.up(stage.offer("shop.tiny"))
    await crashed(stage)
    stage.roster.host_of = broken
    stage.clock.advance(5)
    await stage.until_state("shop.tiny", State.FAILED)

    assert stage.version("shop.tiny").status.reason == (
        "INTERNAL: the worker of mercato-tiny is lost: ZeroDivisionError, see the log; "
        "`mercato admin load --plugin mercato-tiny` tries again"
    )
    assert any(record.exc_info for record in caplog.records if record.message == "the worker of mercato-tiny is lost")


async def test_loads_that_end_the_worker_one_after_the_other_hold_up_neither_the_restart_nor_the_last(
    stage: Stage,
) -> None:
    names = [f"shop.{name}" for name in ("tiny", "b", "c", "d")]
    offers = [stage.offer(name) for name in names]
    offers = [replace(offer, plugin=offers[0].plugin) for offer in offers]
    gates = {name: stage.hold(name, "load") for name in names}
    bringing = asyncio.ensure_future(stage.control.bring_up([stage.install(*offers)]))
    await stage.until(lambda: all(stage.states(name)[-1:] == [State.LOADING] for name in names))
    first = await reached(gates)
    stage.let_go(first, "load")
    await stage.until_state(first, State.AVAILABLE)
    for _ in range(2):
        del gates[first]
        first = await reached(gates)
        slept = len(stage.clock.slept)
        stage.host("mercato-tiny").crash()
        await stage.clock.asleep(slept + 1)
        stage.clock.advance(100)
    del gates[first]
    stage.let_go(await reached(gates), "load")
    async with asyncio.timeout(PATIENCE):
        await bringing
    await stage.until(lambda: len([name for name in names if stage.states(name)[-1] is State.AVAILABLE]) == 2)
    assert len([name for name in names if stage.states(name)[-1] is State.FAILED]) == 2


async def reached(gates: dict[str, Gate]) -> str:
    """The first model whose load has begun."""
    waiting = {asyncio.ensure_future(gate.reached.wait()): name for name, gate in gates.items()}
    async with asyncio.timeout(PATIENCE):
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return waiting[done.pop()]


async def test_a_start_that_fails_for_no_fault_of_the_plugin_is_tried_again(stage: Stage) -> None:
    offer = stage.offer("shop.tiny")
    await stage.up(offer)
    await crashed(stage)
    stage.answers["mercato-tiny"] = OSError(24, "too many open files")
    slept = len(stage.clock.slept)
    stage.clock.advance(1)
    assert await stage.clock.asleep(slept + 1) == pytest.approx(0.2)
    stage.install(offer)
    await restarted(stage, "shop.tiny")
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_starts_that_go_on_failing_use_the_budget_up(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    await crashed(stage)
    stage.answers["mercato-tiny"] = OSError(24, "too many open files")
    slept = len(stage.clock.slept)
    stage.clock.advance(1)
    await stage.clock.asleep(slept + 1)
    stage.clock.advance(1)
    version = await stage.until_state("shop.tiny", State.FAILED)
    assert version.status.reason == (
        "WORKER_CRASHED: the worker of mercato-tiny ended 3 times within 60 s, last: the worker of mercato-tiny could "
        "not be started: OSError; the log has the traceback; `mercato admin load --plugin mercato-tiny` tries again"
    )


async def test_a_worker_whose_versions_are_all_draining_is_not_started_again(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    gate = stage.hold("shop.tiny", "run")
    running = stage.submit("shop.tiny")
    await gate.here()
    stage.control.retirement.begin(stage.version("shop.tiny"), "it was unloaded")
    await crashed(stage)
    stage.clock.advance(5)
    with pytest.raises(WorkerCrashed):
        await running
    await asyncio.gather(*[post.watching for post in stage.roster.posts if post.watching], return_exceptions=True)
    assert len(stage.hosts) == 1
