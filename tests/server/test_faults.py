"""What of a start is told: settings that name nothing, and refusals by model and version to operators and callers."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.server.calls import failed

from mercato.v1 import catalog_pb2, catalog_pb2_grpc, prediction_pb2, prediction_pb2_grpc
from mercato_plugin import ModelSpec, Tensor
from mercato_server import config
from mercato_server.app import App
from mercato_server.app.faults import failures, strays
from mercato_server.commands.report import JsonReport, TextReport
from mercato_server.contract.call import Call
from mercato_server.contract.plugin import Offers, PluginInfo, Refusal, Untrained
from mercato_server.contract.state import State
from mercato_server.rpc.access import Access
from mercato_server.rpc.catalog import CatalogMethods
from mercato_server.serving.catalog import Catalog, Version

PLUGIN = PluginInfo("mercato-made", "1.0", "made", "made")
NAME, NEW = "shop.made", "shop.new"
DAMAGED = Refusal(PLUGIN, "FOLDER_DAMAGED", "manifest.json is not JSON", NAME, 2)
WHOLE = Refusal(PLUGIN, "FOLDER_DAMAGED", "the folders cannot be read", NAME)
BROKEN = Refusal(PluginInfo("mercato-broken", "1.0", "broken", "broken"), "IMPORT_FAILED", "no module")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def app(folder: Path) -> App:
    """A server of no plugin."""
    quiet = {"metrics_listen": "off", "admin_listen": "off", "listen": "127.0.0.1:0", "provider": "cpu"}
    return App(config.load(store=folder / "store", plugins_allow="none", **quiet), lambda model, progress: None)


@pytest.fixture
async def channel(app: App) -> AsyncIterator[Any]:
    """A channel to it, while it serves."""
    await app.start(lambda port: None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as opened:
        yield opened
    await app.stop()


def add(catalog: Catalog, number: int, **metrics: float) -> Version:
    x = Tensor("float32", ("batch", 1))
    spec = ModelSpec(name=NAME, version=number, inputs={"x": x}, outputs={"y": x})
    return catalog.add(Version(NAME, number, spec, PLUGIN, metrics))


# --- the folder of models ---------------------------------------------------------------------------------------------


def told(models_dir: Path) -> list[str]:
    return strays(config.load(models_dir=models_dir), Catalog())


def test_a_folder_of_models_is_looked_at(folder: Path) -> None:
    (folder / "plain").write_text("a file")
    (folder / "loop").symlink_to("loop")
    way_out = "; name the folder that has one of each model"
    assert told(folder) == []
    assert told(folder / "none") == ["models_dir names a folder that does not exist" + way_out]
    assert told(folder / "plain") == ["models_dir names what is no folder" + way_out]
    assert told(folder / "plain" / "models") == ["models_dir names a folder that does not exist" + way_out]
    assert told(folder / ("x" * 300)) == ["models_dir names a folder that cannot be read: File name too long" + way_out]
    assert told(folder / "a\0b") == ["models_dir names a folder that cannot be read: embedded null byte" + way_out]
    (loop,) = told(folder / "loop")
    assert loop.startswith("models_dir names a folder that cannot be read: Too many levels of symbolic links")


def test_a_folder_of_models_behind_a_closed_one_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    settings = config.load(models_dir=folder / "closed" / "models")
    monkeypatch.setattr(Path, "stat", closed)
    (fault,) = strays(settings, Catalog())
    assert fault.startswith("models_dir names a folder that cannot be read: Permission denied; ")
    assert str(folder) not in fault


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_strict_names_model_and_version_of_what_it_does_not_accept() -> None:
    catalog = Catalog()
    catalog.move(add(catalog, 3), State.FAILED, "LOAD_FAILED: no")
    catalog.refused += [DAMAGED, WHOLE, BROKEN]
    assert failures(config.load(), catalog) == [
        "mercato-made: manifest.json is not JSON (model 'shop.made' version 2)",
        "mercato-made: the folders cannot be read (model 'shop.made')",
        "mercato-broken: no module",
        "shop.made version 3: LOAD_FAILED: no",
    ]


async def test_the_report_names_model_and_version_of_a_refusal(app: App) -> None:
    app.catalog.refused += [DAMAGED, WHOLE, BROKEN]
    machines, people = io.StringIO(), io.StringIO()
    JsonReport(app, machines).ready()
    TextReport(app, people, config.load()).ready()
    rows = json.loads(machines.getvalue())["refused_plugins"]
    assert [(row["plugin"], row["model"], row["version"], row["code"]) for row in rows] == [
        ("mercato-made", NAME, 2, "FOLDER_DAMAGED"),
        ("mercato-made", NAME, None, "FOLDER_DAMAGED"),
        ("mercato-broken", None, None, "IMPORT_FAILED"),
    ]
    assert "refused mercato-made, model 'shop.made' version 2: FOLDER_DAMAGED: manifest.json is not JSON\n" in (
        people.getvalue()
    )
    assert "refused mercato-broken: IMPORT_FAILED: no module\n" in people.getvalue()


async def test_the_report_tells_once_that_there_is_no_gpu(app: App) -> None:
    for number in (1, 2):
        version = add(app.catalog, number)
        version.engine = cast(Any, object())
        for state in (State.LOADING, State.WARMING):
            app.catalog.move(version, state)
        app.catalog.move(version, State.AVAILABLE, "auto fell back to cpu: libcuda.so.1 cannot be loaded")
    app.catalog.untrained += [Untrained(PLUGIN, NEW), Untrained(PLUGIN, "shop.own", trains=False)]
    people = io.StringIO()
    TextReport(app, people, config.load()).ready()
    lines = people.getvalue().splitlines()
    assert people.getvalue().count("libcuda") == 1 and "no GPU in use: libcuda.so.1 cannot be loaded" in lines
    assert "untrained: shop.new; mercato train shop.new --data ..." in lines
    assert "untrained: shop.own; write its folder with mercato_plugin.publish_folder; it defines no train" in lines


# --- what callers see -------------------------------------------------------------------------------------------------


async def refused(call: Any) -> tuple[StatusCode, str, str]:
    """Code, reason and text of a call, which must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    found = failed(caught.value)
    return found.code, found.reason, found.text


async def test_predict_the_catalogue_and_health_agree_on_a_model_that_is_refused(app: App, channel: Any) -> None:
    catalog, health = catalog_pb2_grpc.CatalogServiceStub(channel), health_pb2_grpc.HealthStub(channel)
    predict = prediction_pb2_grpc.PredictionServiceStub(channel).Predict
    app.catalog.note(PLUGIN, Offers(refused=[DAMAGED], untrained=[Untrained(PLUGIN, NEW)]))

    for name, code, reason in (
        (NAME, StatusCode.FAILED_PRECONDITION, "MODEL_FAILED"),
        (NEW, StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("shop.none", StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    ):
        reference = prediction_pb2.ModelRef(name=name)
        asked = await refused(predict(prediction_pb2.PredictRequest(model=reference), timeout=20))
        looked_up = await refused(catalog.GetModel(catalog_pb2.GetModelRequest(model=reference), timeout=20))
        assert asked == looked_up and asked[:2] == (code, reason)

    listed = await catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=20)
    assert not listed.models
    assert [(r.model, r.version) for r in listed.refused_plugins if r.model] == [(NAME, 2)]
    checked = await health.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=20)
    assert checked.status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service=NEW), timeout=20)
    assert failed(caught.value).code is StatusCode.NOT_FOUND


async def test_a_refused_version_leaves_the_health_of_the_others(app: App, channel: Any) -> None:
    version = add(app.catalog, 1)
    for state in (State.LOADING, State.WARMING, State.AVAILABLE):
        app.catalog.move(version, state)
    app.catalog.note(PLUGIN, Offers(refused=[DAMAGED]))
    health = health_pb2_grpc.HealthStub(channel)
    checked = await health.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=20)
    assert checked.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_catalogue_tells_which_version_answers_unnamed_calls(folder: Path) -> None:
    settings = config.load(gate=("f1>=0.8",), models={NAME: {"labels": {"next": 9}}})
    app = App(settings, lambda model, progress: None)
    for number, f1 in ((1, 0.9), (2, 0.1)):
        version = add(app.catalog, number, f1=f1)
        for state in (State.LOADING, State.WARMING, State.AVAILABLE):
            app.catalog.move(version, state)
    methods = CatalogMethods(app.catalog, Access(), max_fields=64)

    async def default() -> int:
        request = catalog_pb2.GetModelRequest(model=prediction_pb2.ModelRef(name=NAME, version=2))
        call = Call("mercato.v1.CatalogService/GetModel", request.SerializeToString(), {}, 0.0, 1.0, bounded=True)
        return catalog_pb2.GetModelResponse.FromString(await methods.get_model(call)).model.default_version

    assert await default() == 1
    app.catalog.labels[NAME]["stable"] = 2
    assert await default() == 2
    app.catalog.labels[NAME]["stable"] = 9
    assert await default() == 0
