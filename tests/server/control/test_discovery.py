"""Plugins that answer side by side: fast, late, never, refused, and with each other's names."""

import asyncio

import pytest
from tests.server.control.stage import Stage, plugin

from mercato_server.contract.plugin import Refusal
from mercato_server.contract.state import State
from mercato_server.control.discovery import SETTLING_SECONDS
from mercato_server.errors import PluginRefused


async def refused(stage: Stage) -> dict[str, str]:
    return {refusal.plugin.distribution: refusal.code for refusal in stage.catalog.refused}


async def test_a_plugin_that_is_refused_leaves_the_others(stage: Stage) -> None:
    stage.install(stage.offer("shop.good"))
    stage.answers["mercato-bad"] = PluginRefused("IMPORT_CRASHED", "mercato-bad: its worker was ended by SIGSEGV")
    kept_out = Refusal(plugin("mercato-denied"), "DENIED", "it is denied")
    await stage.control.bring_up([plugin("mercato-bad"), plugin("mercato-good")], [kept_out])

    assert await refused(stage) == {"mercato-denied": "DENIED", "mercato-bad": "IMPORT_CRASHED"}
    assert await stage.ask("shop.good") == [[2, 2]]
    assert [host.is_closed for host in stage.hosts] == [True, False]


async def test_one_name_in_two_plugins_refuses_both_and_ends_their_workers(stage: Stage) -> None:
    one, two = stage.offer("shop.same"), stage.offer("shop.good")
    plugins = [stage.install(one, distribution=name) for name in ("mercato-one", "mercato-two")]
    await stage.control.bring_up([*plugins, stage.install(two)])

    assert await refused(stage) == {"mercato-one": "NAME_CLASH", "mercato-two": "NAME_CLASH"}
    assert [version.name for version in stage.catalog.versions()] == ["shop.good"]
    assert [host.is_closed for host in stage.hosts] == [True, True, False]


async def test_while_a_plugin_imports_the_others_serve_once_names_are_settled(stage: Stage) -> None:
    gate = stage.hold("mercato-slow", "start")
    plugins = [stage.install(stage.offer(name)) for name in ("shop.fast", "shop.slow")]
    bringing = asyncio.ensure_future(stage.control.bring_up(plugins))
    await gate.here()
    assert await stage.clock.asleep() == SETTLING_SECONDS
    assert stage.catalog.versions() == []
    stage.clock.advance(10)
    await stage.until_state("shop.fast", State.AVAILABLE)

    assert not bringing.done()
    stage.let_go("mercato-slow", "start")
    await bringing
    assert stage.states("shop.slow")[-1] is State.AVAILABLE


async def test_one_that_comes_late_with_a_name_that_is_taken_is_refused_alone(stage: Stage) -> None:
    stage.hold("mercato-slow", "start")
    fast, slow = (stage.install(stage.offer("shop.same"), distribution=f"mercato-{name}") for name in ("fast", "slow"))
    bringing = asyncio.ensure_future(stage.control.bring_up([fast, slow]))
    await stage.clock.asleep()
    stage.clock.advance(10)
    await stage.until_state("shop.same", State.AVAILABLE)
    stage.let_go("mercato-slow", "start")
    await bringing

    [refusal] = stage.catalog.refused
    assert (refusal.plugin.distribution, refusal.code) == ("mercato-slow", "NAME_CLASH")
    assert "'shop.same' of mercato-fast 1.0 and 'shop.same' of mercato-slow 1.0" in refusal.reason
    assert await stage.ask("shop.same") == [[2, 2]]
    assert [host.is_closed for host in stage.hosts] == [False, True]


async def test_a_refusal_does_not_begin_the_wait_for_the_others(stage: Stage) -> None:
    stage.answers["mercato-bad"] = PluginRefused("NO_HOOK", "mercato-bad has no hook")
    gate = stage.hold("mercato-slow", "start")
    slow = stage.install(stage.offer("shop.slow"))
    bringing = asyncio.ensure_future(stage.control.bring_up([plugin("mercato-bad"), slow]))
    await gate.here()
    assert stage.clock.slept == []
    stage.let_go("mercato-slow", "start")
    await bringing
    assert stage.version("shop.slow").status.state is State.AVAILABLE


async def test_a_start_that_is_cancelled_ends_the_workers_that_import(stage: Stage) -> None:
    gate = stage.hold("mercato-slow", "start")
    bringing = asyncio.ensure_future(stage.control.bring_up([stage.install(stage.offer("shop.slow"))]))
    await gate.here()
    bringing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bringing
    assert [host.is_closed for host in stage.hosts] == [True]


async def test_a_start_that_is_cancelled_ends_the_workers_that_wait_for_the_others(stage: Stage) -> None:
    stage.hold("mercato-slow", "start")
    plugins = [stage.install(stage.offer(name)) for name in ("shop.fast", "shop.slow")]
    bringing = asyncio.ensure_future(stage.control.bring_up(plugins))
    await stage.clock.asleep()
    bringing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bringing
    assert [host.is_closed for host in stage.hosts] == [True, True]


async def test_a_host_that_cannot_be_started_is_a_refusal(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.answers["mercato-bad"] = OSError(24, "too many open files")
    await stage.control.bring_up([plugin("mercato-bad"), stage.install(stage.offer("shop.good"))])

    [refusal] = stage.catalog.refused
    assert (refusal.code, refusal.reason) == (
        "IMPORT_FAILED", "the worker of mercato-bad could not be started: OSError; the log has the traceback",
    )  # fmt: skip
    assert any(record.exc_info for record in caplog.records)
    assert await stage.ask("shop.good") == [[2, 2]]
