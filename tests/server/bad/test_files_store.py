"""Stored artifacts that were tampered with: refused by name without build tools, exported again with them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tests.server.bad.files_onnx import DISTRIBUTION, SOURCE, WEIGHT, external
from tests.server.bad.files_store import GRAPH, ROWS, Row, Stored
from tests.server.calls import PREDICT, Wire, request, served, tensor
from tests.server.conftest import Start
from tests.server.gate import GATE, Gate, install
from tests.server.running import Running, environment

GOOD = "ready.good"
X = tensor("x", shape=[1, 4], data=np.ones((1, 4), np.float32).tobytes())

# What a host sees that has only what serving needs.
NO_TOOLS = """
import importlib.metadata as metadata

found = metadata.version


def version(name):
    if name == "torch":
        raise metadata.PackageNotFoundError(name)
    return found(name)


metadata.version = version
"""


class Site:
    """A folder with plugins and a store, and the ways to start a server of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.path = install(folder / "site", DISTRIBUTION, SOURCE)
        (folder / "bare").mkdir()
        (folder / "bare" / "sitecustomize.py").write_text(NO_TOOLS)
        for model in (GOOD, *(row.model for row in ROWS)):
            (place := folder / "ready" / model.partition(".")[2]).mkdir(parents=True)
            external()(place)

    def server(self, name: str, *, bare: bool = False) -> Running:
        """A server over the store; a `bare` one has no build tools."""
        path = f"{self.folder / 'bare'}:{self.path}" if bare else self.path
        env = environment(self.folder / "home", (DISTRIBUTION,), PYTHONPATH=path, READY=str(self.folder / "ready"))
        return Running(self.store, self.folder / name, env)

    def tamper(self) -> None:
        """Every row to its own model."""
        keys = {json.loads(path.read_bytes())["model"]: path for path in (self.store / "keys").iterdir()}
        digests = {name: json.loads(path.read_bytes())["digest"] for name, path in keys.items()}
        for row in ROWS:
            row.tamper(Stored(self.store / "objects" / digests[row.model], keys[row.model]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A store filled by one server, then tampered with."""
    made = Site(tmp_path_factory.mktemp("tampered"))
    filling = made.server("filling")
    try:
        assert {item["state"] for item in filling.ready()["models"]} == {"AVAILABLE"}
    finally:
        filling.kill()
    made.tamper()
    return made


@pytest.fixture(scope="module")
def bare(site: Site) -> Iterator[tuple[Running, Wire]]:
    """A server without build tools over the tampered store."""
    running = site.server("bare-work", bare=True)
    with served(running) as wire:
        yield running, wire


def answers(wire: Wire, model: str) -> bool:
    answer = wire.prediction.Predict(request(model, X), timeout=20)
    return bool(answer.outputs[0].tensor.data == WEIGHT.tobytes())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_was_tampered_with_is_refused_by_name(bare: tuple[Running, Wire], row: Row) -> None:
    running, wire = bare
    got = wire.refused(PREDICT, request(row.model, X).SerializeToString())

    assert (got.code, got.reason) == (StatusCode.FAILED_PRECONDITION, "MODEL_FAILED"), got.everything
    assert f"{row.code}: " in got.text and row.says in got.text
    assert str(running.home.parent) not in got.everything and "Traceback" not in got.everything
    assert wire.serving() and answers(wire, GOOD)


def test_with_build_tools_what_is_damaged_is_exported_again(site: Site, bare: tuple[Running, Wire]) -> None:
    damaged = [row for row in ROWS if row.code == "ARTIFACT_DAMAGED"]
    again = site.server("again")
    try:
        states = {item["model"]: item["state"] for item in again.ready()["models"]}
        with grpc.insecure_channel(again.address) as channel:
            wire = Wire(channel)
            assert {states[row.model] for row in damaged} == {"AVAILABLE"}
            assert all(answers(wire, row.model) for row in damaged)
        assert [row.name for row in damaged if row.says not in again.log] == []
    finally:
        again.kill()


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def replace(path: Path) -> None:
    """The same bytes under the same name, but another file."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def swap(path: Path) -> None:
    """Another folder for a moment, and back."""
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.with_name("aside").rename(path.parent)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gate, dict[str, str]]]:
    """A filled store with a model that stops while it loads, and one that does not."""
    folder = tmp_path_factory.mktemp("gated")
    (folder / "ready" / "good").mkdir(parents=True)
    external()(folder / "ready" / "good")
    gate = Gate(folder / "gate")
    install(folder / "site", "mercato-gate", GATE)
    path = install(folder / "site", DISTRIBUTION, SOURCE)
    facts = {"PYTHONPATH": path, "GATE": str(gate.folder), "READY": str(folder / "ready")}
    env = environment(folder / "home", ("mercato-gate", DISTRIBUTION), **facts)
    filling = Running(folder / "store", folder / "work", env)
    try:
        filling.ready()
        yield gate, facts
    finally:
        filling.kill()
        gate.close()


# The last one leaves nothing behind to go on with.
@pytest.mark.parametrize("change", [rewrite, replace, swap, remove], ids=lambda change: change.__name__)
def test_a_file_that_changes_after_the_check_is_found(
    gated: tuple[Gate, dict[str, str]], start: Start, change: Callable[[Path], None]
) -> None:
    """The server is held while it loads: what it has opened by then may not be what was verified."""
    gate, facts = gated
    store = gate.folder.parent / "store"
    held = start(store, plugins=("mercato-gate", DISTRIBUTION), GATE_LOAD="1", **facts).listening()
    gate.reached("load")
    [graph] = [path for path in store.glob(f"objects/*/{GRAPH}") if b"gate" in path.read_bytes()]
    change(graph)
    gate.open("load")
    states = {item["model"]: (item["state"], item["reason"]) for item in held.ready()["models"]}

    assert states["test.gate"][0] == "FAILED" and states[GOOD][0] == "AVAILABLE"
    assert "ARTIFACT_DAMAGED: model 'test.gate'" in states["test.gate"][1]
    assert "was changed while the model was loading" in states["test.gate"][1]
