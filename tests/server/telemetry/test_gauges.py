"""What a scrape is told of models that do not serve."""

import importlib.metadata
from pathlib import Path

import pytest

from mercato_plugin import Model, ModelSpec, Tensor
from mercato_server.contract.plugin import Discovery, OfferedModel, PluginInfo, Refusal
from mercato_server.contract.state import State
from mercato_server.control.gauges import facts
from mercato_server.control.lifecycle import Lifecycle
from mercato_server.control.resources import Resources
from mercato_server.runtime.providers import Provider
from mercato_server.serving.catalog import Catalog
from mercato_server.store import Store

X = Tensor("float32", ("batch", 1), doc="a number")
PLUGIN = PluginInfo("mercato-bad", "2.0", "bad", "no_such_package")
SPEC = ModelSpec(name="shop.bad", inputs={"x": X}, outputs={"y": X})


async def test_an_export_that_fails_is_counted_and_its_model_has_no_load(tmp_path: Path) -> None:
    catalog, running = Catalog(), []
    given = Resources(Provider("cpu"), 1, 10, 10_000)
    control = Lifecycle(catalog, Store(tmp_path), lambda model: given, lambda name, progress: None)
    catalog.listeners.append(lambda version: running.append(version.status.state is State.EXPORTING))
    refused = [Refusal(PLUGIN, "IMPORT_FAILED", "it cannot be imported")]
    await control.bring_up(Discovery([OfferedModel(PLUGIN, Model(), SPEC)], refused))

    assert running == [False, True, False]
    told = facts(catalog, exports_failed=control.exports_failed, streams=3)
    assert (told.exports_failed, told.streams) == (1, 3)
    assert told.refused == [("mercato-bad", "IMPORT_FAILED")]
    [model] = told.models
    assert (model.model, model.version, model.plugin, model.plugin_version) == ("shop.bad", 1, "mercato-bad", "2.0")
    assert (model.state, model.provider, model.load) == ("FAILED", "", None)
    assert set(told.states) == {state.value for state in State}


def test_a_scrape_reads_no_metadata_of_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    version = facts(Catalog(), exports_failed=0, streams=0).version
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: pytest.fail("it reads the disk"))
    assert facts(Catalog(), exports_failed=0, streams=0).version == version != ""
