"""Loads of versions from model folders: what is offered beside the newest, what is refused, what fails alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.control.stage import Stage, plugin

from mercato_server.contract.gates import Gate
from mercato_server.contract.plugin import Offer, Refusal, Trained, Untrained
from mercato_server.contract.state import State
from mercato_server.errors import GateNotPassed, LoadFailed, LoadRefused, NotFound

TINY = "mercato-tiny"


async def test_a_load_has_what_serves_offered_too_and_not_what_was_unloaded(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny"), stage.offer("shop.tiny", version=2))
    steps = await stage.load("shop.tiny")
    assert stage.hosts[1].kept == {("shop.tiny", 1)}
    assert {(step.version, step.state) for step in steps if step.state is State.AVAILABLE} == {
        (1, State.AVAILABLE), (2, State.AVAILABLE),
    }  # fmt: skip
    await stage.operator.unload("shop.tiny", 1)
    stage.install(stage.offer("shop.tiny", version=2))
    await stage.load("shop.tiny")
    assert stage.hosts[2].kept == {("shop.tiny", 2)}


async def test_a_load_tries_again_what_failed_and_brings_back_what_a_label_means(stage: Stage) -> None:
    offers = [stage.offer("shop.tiny", version=number) for number in (4, 3, 2, 1)]
    await stage.control.bring_up([stage.install(*offers)])
    stage.catalog.set_label("shop.tiny", "canary", 2)
    await stage.operator.unload("shop.tiny", None)
    stage.install(*offers[2:])
    stage.failing["shop.tiny", "load"] = LoadFailed("no room")
    with pytest.raises(LoadRefused):
        await stage.load("shop.tiny")
    assert stage.hosts[1].kept == {("shop.tiny", 2)}
    stage.failing.clear()
    await stage.load("shop.tiny", version=1)
    assert stage.hosts[2].kept == {("shop.tiny", 1), ("shop.tiny", 2)}
    stage.catalog.move(stage.version("shop.tiny", 1), State.FAILED, "it crashed")
    await stage.load("shop.tiny")
    assert stage.hosts[3].kept == {("shop.tiny", 1), ("shop.tiny", 2)}
    states = {number: version.status.state for number, version in stage.catalog.models["shop.tiny"].items()}
    assert states == {
        4: State.UNLOADED, 3: State.UNLOADED, 2: State.AVAILABLE, 1: State.AVAILABLE,
    }  # fmt: skip


async def test_one_version_is_loaded_alone(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny", version=3))
    stage.install(*(stage.offer("shop.tiny", version=number) for number in (4, 3, 2)))
    torn = Refusal(plugin(TINY), "FOLDER_DAMAGED", "it is torn", "shop.tiny", 5)
    stage.told[TINY] = ([torn], [])
    steps = await stage.load("shop.tiny", version=2)
    assert stage.hosts[1].kept == {("shop.tiny", 2), ("shop.tiny", 3)}
    assert {step.version for step in steps} == {2} and steps[-1].state is State.AVAILABLE
    assert sorted(stage.catalog.models["shop.tiny"]) == [2, 3]
    with pytest.raises(LoadRefused, match="^it is torn$"):
        await stage.load("shop.tiny", version=5)
    with pytest.raises(LoadRefused, match=r"mercato-tiny 1.0 does not offer model 'shop.tiny' version 9: it has no m"):
        await stage.load("shop.tiny", version=9)


async def test_what_serves_unchanged_has_the_metrics_that_are_there_now(stage: Stage) -> None:
    def tiny(f1: float) -> Offer:
        return replace(stage.offer("shop.tiny"), trained=Trained(Path("files"), "d" * 64, {"f1": f1}))

    stage.catalog.gates = (Gate("", "f1", ">=", 0.8),)
    await stage.up(tiny(0.5))
    with pytest.raises(GateNotPassed):
        stage.catalog.set_label("shop.tiny", "stable", 1)
    stage.failing["shop.extra", "load"] = LoadFailed("its weights are torn")
    stage.install(tiny(0.9), stage.offer("shop.extra"), distribution=TINY)
    with pytest.raises(LoadRefused):
        await stage.load(plugin=TINY)
    assert stage.version("shop.tiny").metrics == {"f1": 0.5}
    version = stage.version("shop.tiny")
    await stage.load("shop.tiny")
    assert stage.version("shop.tiny") is version and version.metrics == {"f1": 0.9}
    assert stage.catalog.set_label("shop.tiny", "stable", 1) == {"stable": 1}


async def test_a_version_that_cannot_be_loaded_is_told_and_takes_no_other_along(stage: Stage) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(stage.offer("shop.tiny"), stage.offer("shop.tiny", version=3))
    torn, elsewhere = (
        Refusal(plugin(TINY), "FOLDER_DAMAGED", f"{model} is torn", model, 2) for model in ("shop.tiny", "shop.extra")
    )
    kept = Refusal(plugin(TINY), "FOLDER_DAMAGED", "shop.tiny is torn", "shop.tiny", 1)
    stage.told[TINY] = ([torn, elsewhere, kept], [Untrained(plugin(TINY), "shop.new")])
    steps = await stage.load("shop.tiny")

    assert [(step.model, step.version, step.reason) for step in steps if step.state is State.FAILED] == [
        ("shop.tiny", 2, "FOLDER_DAMAGED: shop.tiny is torn")
    ]
    assert sorted(stage.catalog.models["shop.tiny"]) == [1, 3]
    assert stage.catalog.refused == [torn, elsewhere, kept]
    with pytest.raises(NotFound, match="model 'shop.new' is installed but has no trained version; train one with "):
        stage.catalog.model("shop.new")
    stage.told[TINY] = ([], [])
    await stage.load(plugin=TINY)
    assert (stage.catalog.refused, stage.catalog.untrained) == ([], [])


@pytest.mark.parametrize("model", ["shop.tiny", ""])
async def test_where_nothing_can_be_loaded_the_reason_is_told(stage: Stage, model: str) -> None:
    await stage.up(stage.offer("shop.tiny"))
    stage.install(distribution=TINY)
    stage.told[TINY] = ([Refusal(plugin(TINY), "FOLDER_DAMAGED", "it is torn", "shop.tiny", 1)], [])
    with pytest.raises(LoadRefused, match="^it is torn$") as caught:
        await stage.load(model, "" if model else TINY)
    assert caught.value.reason == "FOLDER_DAMAGED"

    stage.told[TINY] = ([], [Untrained(plugin(TINY), "shop.tiny")])
    with pytest.raises(LoadRefused, match="shop.tiny of mercato-tiny 1.0 is untrained; make a version of it with"):
        await stage.load(model, "" if model else TINY)
    stage.catalog.has_folders = False
    with pytest.raises(
        LoadRefused, match="untrained; train it with `mercato train` and start the server with --models-d"
    ):
        await stage.load(model, "" if model else TINY)
    assert await stage.ask("shop.tiny") == [[2, 2]]


async def test_a_plugin_of_which_all_is_untrained_has_no_worker_until_it_is_loaded(stage: Stage) -> None:
    stage.told[TINY] = ([], [Untrained(plugin(TINY), "shop.tiny")])
    await stage.control.bring_up([stage.install(distribution=TINY)])
    assert stage.operator.workers() == [] and stage.hosts[0].is_closed
    stage.install(stage.offer("shop.tiny"))
    stage.told[TINY] = ([], [])
    await stage.load(plugin=TINY)
    assert await stage.ask("shop.tiny") == [[2, 2]] and stage.catalog.untrained == []


async def test_a_worker_that_is_started_again_keeps_the_versions_that_sat_there(stage: Stage) -> None:
    trained = Trained(Path("files"), "d" * 64, {"f1": 0.5})
    await stage.up(replace(stage.offer("shop.tiny"), trained=trained))
    assert stage.version("shop.tiny").metrics == {"f1": 0.5}
    stage.install(stage.offer("shop.tiny", version=2))
    stage.hosts[0].crash()
    await stage.clock.asleep()
    stage.clock.advance(1)
    await stage.until_state("shop.tiny", State.FAILED)
    assert stage.hosts[1].kept == {("shop.tiny", 1)}
    assert stage.version("shop.tiny").status.reason == (
        "LOAD_FAILED: the model folder of shop.tiny version 1 is gone or damaged; bring it back and load it with "
        "mercato admin load --plugin mercato-tiny, or move labels to another version"
    )


async def test_inline_another_folder_is_loaded_and_other_code_is_not(stage: Stage) -> None:
    stage.build("inline")
    first = stage.offer("shop.tiny")
    await stage.up(first)
    stage.install(first, stage.offer("shop.tiny", version=2))
    await stage.load("shop.tiny")
    assert stage.catalog.resolve("shop.tiny").number == 2
    stage.install(stage.offer("shop.tiny", version=3))
    with pytest.raises(LoadRefused, match="source of mercato-tiny changed on disk"):
        await stage.load("shop.tiny")
