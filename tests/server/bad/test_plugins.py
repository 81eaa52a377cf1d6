"""Misbehaving plugins beside good ones in one real server: named with their reason, and nobody else is harmed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode
from tests.server.bad.plugins import HEADER, HOOK, MODEL, MOODS, ROWS, Mood, Row, moody
from tests.server.calls import PREDICT, Failed, Wire, request, served, tensor
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato.v1 import catalog_pb2

GOOD, MOODY = "bad.good", "bad.moody"
LEAKS = ("Traceback", "site-packages", "/tmp", "/home", "secret")  # noqa: S108
X = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Wire]]:
    """One server of all plugins; it is started with a relative store, which a change of folder must not lose."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = {row.distribution: row.source for row in ROWS}
    sources |= {"mercato-good": HEADER + MODEL.replace("NAME", "good") + HOOK, "mercato-moody": moody()}
    for distribution, source in sources.items():
        install(folder / "site", distribution, source)
    (folder / "made").mkdir()
    env = environment(folder / "home", tuple(sources), PYTHONPATH=str(folder / "site"), MADE=str(folder / "made"))
    running = Running(Path("store"), folder / "work", env)
    with served(running) as wire:
        yield running, wire


@pytest.fixture(scope="module")
def listed(site: tuple[Running, Wire]) -> catalog_pb2.ListModelsResponse:
    answer: catalog_pb2.ListModelsResponse = site[1].catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=20)
    return answer


@pytest.fixture(autouse=True)
def alive(site: tuple[Running, Wire]) -> Iterator[None]:
    """After every case the server lives, and the good model answers."""
    yield
    running, wire = site
    assert running.process.poll() is None and wire.serving()
    assert np.array_equal(answer(wire, GOOD, X), X)


def answer(wire: Wire, model: str, x: np.typing.NDArray[np.float32]) -> np.typing.NDArray[np.float32]:
    response = wire.prediction.Predict(request(model, tensor("x", shape=x.shape, data=x.tobytes())), timeout=20)
    return np.frombuffer(response.outputs[0].tensor.data, np.float32).reshape(x.shape)


def refusal(wire: Wire, model: str, x: np.typing.NDArray[np.float32] = X) -> Failed:
    named = tensor("x", shape=x.shape, data=x.tobytes())
    return wire.refused(PREDICT, request(model, named).SerializeToString())


def of(fate: str) -> list[Row]:
    return [row for row in ROWS if row.fate == fate]


@pytest.mark.parametrize("row", of("refused"), ids=lambda row: row.name)
def test_a_plugin_is_refused_with_its_reason(
    site: tuple[Running, Wire], listed: catalog_pb2.ListModelsResponse, row: Row
) -> None:
    [entry] = [entry for entry in listed.refused_plugins if entry.plugin.distribution == row.distribution]

    assert entry.code == row.code and row.says in entry.reason
    assert len(entry.reason) < 1000 and not [leak for leak in LEAKS if leak in entry.reason]
    assert refusal(site[1], row.model).code is StatusCode.NOT_FOUND


@pytest.mark.parametrize("row", of("failed"), ids=lambda row: row.name)
def test_a_model_fails_with_its_reason(site: tuple[Running, Wire], row: Row) -> None:
    got = refusal(site[1], row.model)

    assert (got.code, got.reason) == (StatusCode.FAILED_PRECONDITION, "MODEL_FAILED"), got.everything
    assert f"{row.code}: " in got.text and row.says in got.text and row.model in got.text
    assert len(got.text) < 1000 and not [leak for leak in LEAKS if leak in got.everything]


@pytest.mark.parametrize("row", of("serves"), ids=lambda row: row.name)
def test_what_harms_nobody_is_served(site: tuple[Running, Wire], row: Row) -> None:
    assert np.array_equal(answer(site[1], row.model, X), X)


def test_no_process_is_left_behind(site: tuple[Running, Wire]) -> None:
    running, _ = site
    assert running.children() == []
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if str(running.home).encode() in own(path)]


def own(path: Path) -> bytes:
    """A process's environment when it is a `sleep`; others may belong to somebody else or end meanwhile."""
    try:
        return path.read_bytes() if path.with_name("comm").read_text() == "sleep\n" else b""
    except OSError:
        return b""


@pytest.mark.parametrize("mood", MOODS, ids=lambda mood: mood.name)
def test_a_bad_answer_is_internal_and_the_next_is_fine(site: tuple[Running, Wire], mood: Mood) -> None:
    running, wire = site
    x = X.copy()
    x[0, 0] = 100 + MOODS.index(mood)
    if mood.says:
        got = refusal(wire, MOODY, x)
        assert got.code is StatusCode.INTERNAL and got.reason == "PLUGIN_FAULT", got.everything
        assert mood.says in got.text and len(got.text) < 300
        assert got.facts["id"] in got.text and got.facts["id"] in running.log
        assert not [leak for leak in LEAKS if leak in got.everything]
    else:
        expected = {"right": x, "backwards": x[:, ::-1], "nan": np.full_like(x, np.nan)}[mood.answer]
        assert np.array_equal(answer(wire, MOODY, x), expected, equal_nan=True)
    assert np.array_equal(answer(wire, MOODY, X), X)
