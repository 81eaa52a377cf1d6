"""Ready ONNX files against the running server: each bad one fails its own model with a reason, the others serve."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode
from tests.server.bad.files_onnx import DISTRIBUTION, LOOP, MODEL, ROWS, SOURCE, WEIGHT, Row, external, model, wrote
from tests.server.calls import PREDICT, Wire, request, served, tensor
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import ExportFailed
from mercato_server.export import launch
from mercato_server.export.request import ExportRequest

GOOD = Row(81, "good", wrote(model()), "", code="")
BESIDE = Row(81, "data beside", external(), "", code="")
LEAKS = ("Traceback", "site-packages", ".py", "/tmp", "/home", "READY")  # noqa: S108


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Wire]]:
    """One server whose plugin brings every file as a model of its own."""
    folder = tmp_path_factory.mktemp("onnx")
    for row in (GOOD, BESIDE, *ROWS):
        (place := folder / "ready" / row.model.partition(".")[2]).mkdir(parents=True)
        row.make(place)
    env = environment(
        folder / "home", (DISTRIBUTION,),
        PYTHONPATH=install(folder / "site", DISTRIBUTION, SOURCE), READY=str(folder / "ready"),
    )  # fmt: skip
    running = Running(folder / "store", folder / "work", env)
    with served(running) as wire:
        yield running, wire


def doubled(wire: Wire, name: str) -> bool:
    """Whether the model answers 2 x."""
    x = np.arange(4, dtype=np.float32)[None]
    answer = wire.prediction.Predict(request(name, tensor("x", shape=x.shape, data=x.tobytes())), timeout=20)
    return bool(answer.outputs[0].tensor.data == (x * WEIGHT).tobytes())


@pytest.mark.parametrize("row", [row for row in ROWS if row.code], ids=lambda row: row.name)
def test_a_bad_file_fails_its_model_alone(site: tuple[Running, Wire], row: Row) -> None:
    running, wire = site
    bad = request(row.model, tensor("x", shape=[1, 4], data=bytes(16)))
    got = wire.refused(PREDICT, bad.SerializeToString())

    assert (got.code, got.reason) == (StatusCode.FAILED_PRECONDITION, "MODEL_FAILED"), got.everything
    assert f"{row.code}: model {row.model!r}" in got.text and row.says in got.text
    assert not [leak for leak in LEAKS if leak in got.everything]
    assert wire.serving() and not wire.serving(row.model)
    assert doubled(wire, GOOD.model)
    assert running.process.poll() is None


@pytest.mark.parametrize("row", [GOOD, BESIDE, *(row for row in ROWS if not row.code)], ids=lambda row: row.name)
def test_a_good_file_serves(site: tuple[Running, Wire], row: Row) -> None:
    assert doubled(site[1], row.model)


async def test_a_graph_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "ready" / LOOP.model.partition(".")[2]).mkdir(parents=True)
    LOOP.make(folder)
    monkeypatch.setenv("PYTHONPATH", install(tmp_path / "site", DISTRIBUTION, SOURCE))
    monkeypatch.setenv("READY", str(tmp_path / "ready"))
    monkeypatch.setattr(launch, "RUN_SECONDS", 1.0)
    info = PluginInfo(DISTRIBUTION, "1.0", "mercato_ready", "mercato_ready")

    with pytest.raises(ExportFailed, match=LOOP.says):
        await launch.export_model(ExportRequest(info, LOOP.model, tmp_path / "store", "c" * 64), lambda progress: None)
    assert (folder / MODEL).exists()
