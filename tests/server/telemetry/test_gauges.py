"""What a scrape is told of models that do not serve."""

import importlib.metadata
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving.puppet import ample

from mercato_plugin import Model, ModelSpec, Tensor
from mercato_server.contract.administration import WorkerFacts
from mercato_server.contract.plugin import Discovery, OfferedModel, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.gauges import facts
from mercato_server.control.lifecycle import Lifecycle
from mercato_server.control.loading import Loader
from mercato_server.control.memory import MemoryBudget
from mercato_server.control.posts import Roster
from mercato_server.control.resources import Resources
from mercato_server.runtime.inline import InlineHost
from mercato_server.runtime.providers import Provider
from mercato_server.serving.catalog import Catalog
from mercato_server.store import Store
from mercato_server.telemetry.exposition import Collected
from mercato_server.telemetry.facts import Facts, ModelFacts, WorkerSample
from mercato_server.telemetry.tally import RequestTally

X = Tensor("float32", ("batch", 1), doc="a number")
PLUGIN = PluginInfo("mercato-bad", "2.0", "bad", "no_such_package")
WORSE = PluginInfo("mercato-worse", "1.0", "worse", "no_such_package")
SPEC = ModelSpec(name="shop.bad", inputs={"x": X}, outputs={"y": X})


async def test_an_export_that_fails_is_counted_and_its_model_has_no_load(tmp_path: Path) -> None:
    catalog, running = Catalog(), []
    given = Resources(Provider("cpu"), 1, 10, 10_000)
    loader = Loader(Store(tmp_path), lambda model: given, MemoryBudget(None), ample())
    roster = Roster(
        lambda plugin: InlineHost(plugin, lambda *_: Discovery([OfferedModel(PLUGIN, Model(), SPEC)])), "inline"
    )
    control = Lifecycle(catalog, roster, loader, lambda name, progress: None)
    catalog.listeners.append(lambda version: running.append(version.status.state is State.EXPORTING))
    await control.bring_up(
        [PLUGIN], [Refusal(WORSE, code, "it cannot be imported") for code in ("NO_HOOK", "NO_HOOK", "DENIED")]
    )

    assert running == [False, True, False]
    told = facts(catalog, exports_failed=loader.exports_failed, streams=3)
    assert (told.exports_failed, told.streams) == (1, 3)
    assert told.refused == [("mercato-worse", "DENIED"), ("mercato-worse", "NO_HOOK")]
    [model] = told.models
    assert (model.model, model.version, model.plugin, model.plugin_version) == ("shop.bad", 1, "mercato-bad", "2.0")
    assert (model.state, model.provider, model.load) == ("FAILED", "", None)
    assert set(told.states) == {state.value for state in State}


def test_a_scrape_reads_no_metadata_of_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    version = facts(Catalog(), exports_failed=0, streams=0).version
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: pytest.fail("it reads the disk"))
    assert facts(Catalog(), exports_failed=0, streams=0).version == version != ""


def worker(name: str, **facts: Any) -> WorkerFacts:
    given: dict[str, Any] = {
        "isolation": "process",
        "pid": 7,
        "started": 0.0,
        "restarts": 0,
        "last_crash": "",
        "nbytes": 100,
    }
    return WorkerFacts(plugin=replace(PLUGIN, distribution=name), models=(), **given | facts)


def test_a_plugin_with_two_workers_is_one_sample() -> None:
    two = [worker("b", restarts=2), worker("a", nbytes=1), worker("b", pid=8, nbytes=11)]
    assert facts(Catalog(), exports_failed=0, streams=0, workers=two).workers == [
        WorkerSample("a", "process", True, 1, 0),
        WorkerSample("b", "process", True, 111, 2),
    ]


def test_a_worker_that_has_ended_holds_nothing() -> None:
    ended = [worker("a", pid=0, nbytes=0, restarts=4), worker("b", nbytes=0)]
    assert facts(Catalog(), exports_failed=0, streams=0, workers=ended).workers == [
        WorkerSample("a", "process", False, 0, 4),
        WorkerSample("b", "process", False, 0, 0),
    ]


def test_workers_in_one_process_are_not_added_up() -> None:
    inline = [worker("a", isolation="inline"), worker("a", isolation="inline")]
    [sample] = facts(Catalog(), exports_failed=0, streams=0, workers=inline).workers
    assert sample == WorkerSample("a", "inline", True, 100, 0)


def test_a_scrape_shows_workers_memory_and_the_limit() -> None:
    model = ModelFacts("shop.a", 1, "a", "1.0", "cpu", "d", "AVAILABLE", 0.0, None, nbytes=64)
    unmeasured = replace(model, version=2, nbytes=0)
    workers = [WorkerSample("a", "process", True, 100, 1), WorkerSample("b", "process", False, 0, 5)]
    told = Facts("1.0", ("AVAILABLE",), [model, unmeasured], [], 0, 0, workers=workers, memory_limit=500)
    found = defaultdict[str, list[Any]](list)
    for family in Collected(RequestTally(), lambda: told).collect():
        for sample in family.samples:
            found[sample.name].append((tuple(sample.labels.values()), sample.value))
    assert found["mercato_model_memory_bytes"] == [(("shop.a", "1"), 64)]
    assert found["mercato_memory_limit_bytes"] == [((), 500)]
    assert found["mercato_workers"] == [(("a", "process"), 1), (("b", "process"), 0)]
    assert found["mercato_worker_memory_bytes"] == [(("a",), 100)]
    assert found["mercato_worker_restarts_total"] == [(("a",), 1), (("b",), 5)]
