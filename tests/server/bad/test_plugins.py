"""Misbehaving plugins beside good ones in real servers: named with their reason, and nobody else is harmed."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tests.server.bad.plugins import (
    DARK_MOODS,
    ENDING,
    HEADER,
    HOOK,
    LOOPS,
    MODEL,
    MOODS,
    ROWS,
    Mood,
    Row,
    looping,
    moody,
)
from tests.server.calls import PREDICT, Failed, Wire, request, served, tensor
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato.v1 import admin_pb2, admin_pb2_grpc, catalog_pb2

GOOD, MOODY, LOOPING = "bad.good", "bad.moody", "bad.looping"
LEAKS = ("Traceback", "site-packages", "/tmp", "/home", "secret")  # noqa: S108
X = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
# A model that lost its worker answers again within this time.
RESTART = 10.0
SHORT = {
    "MERCATO_IMPORT_TIMEOUT": "8",
    "MERCATO_LOAD_TIMEOUT": "4",
    "MERCATO_BATCH_TIMEOUT": "1",
    "MERCATO_WORKER_MEMORY": str(512 * 2**20),
    "MERCATO_CRASH_BUDGET": "1000",
    "MERCATO_CRASH_WINDOW": "0.1",
}
Site = tuple[Running, Wire]
Refusals = dict[str, catalog_pb2.RefusedPlugin]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server of all plugins; it is started with a relative store, which a change of folder must not lose."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = {row.distribution: row.source for row in ROWS} | {"mercato-moody": moody(MOODS)}
    running = started(folder, sources)
    with served(running) as wire:
        yield running, wire


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of short times and small workers, for plugins that end, hang or fill their process."""
    folder = tmp_path_factory.mktemp("dark")
    sources = {row.distribution: row.source for row in ENDING}
    sources |= {"mercato-moody": moody(DARK_MOODS), "mercato-looping": looping()}
    (folder / "admin").mkdir(mode=0o700)
    running = started(folder, sources, **SHORT, MERCATO_ADMIN_LISTEN=f"unix:{folder / 'admin' / 'socket'}")
    with served(running) as wire:
        yield running, wire


def started(folder: Path, sources: dict[str, str], **settings: str) -> Running:
    """A server of these plugins and a good one."""
    sources = {**sources, "mercato-good": HEADER + MODEL.replace("NAME", "good") + HOOK}
    for distribution, source in sources.items():
        install(folder / "site", distribution, source)
    (folder / "made").mkdir()
    own = {"PYTHONPATH": str(folder / "site"), "MADE": str(folder / "made")}
    return Running(Path("store"), folder / "work", environment(folder / "home", tuple(sources), **own, **settings))


@pytest.fixture(scope="module")
def refused_plugins(site: Site) -> Refusals:
    return refusals(site[1])


@pytest.fixture(scope="module")
def refused_in_the_dark(dark: Site) -> Refusals:
    return refusals(dark[1])


@pytest.fixture
def alive(site: Site) -> Iterator[None]:
    """After every case the server lives, and the good model answers."""
    yield
    assert_alive(site)


@pytest.fixture
def alive_in_the_dark(dark: Site) -> Iterator[None]:
    yield
    assert_alive(dark)


def assert_alive(site: Site) -> None:
    running, wire = site
    assert running.process.poll() is None and wire.serving()
    assert np.array_equal(answer(wire, GOOD, X), X)


def refusals(wire: Wire) -> Refusals:
    """By distribution."""
    listed = wire.catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=20)
    return {entry.plugin.distribution: entry for entry in listed.refused_plugins}


def answer(wire: Wire, model: str, x: np.typing.NDArray[np.float32]) -> np.typing.NDArray[np.float32]:
    response = wire.prediction.Predict(request(model, tensor("x", shape=x.shape, data=x.tobytes())), timeout=20)
    return np.frombuffer(response.outputs[0].tensor.data, np.float32).reshape(x.shape)


def refusal(wire: Wire, model: str, x: np.typing.NDArray[np.float32] = X) -> Failed:
    named = tensor("x", shape=x.shape, data=x.tobytes())
    return wire.refused(PREDICT, request(model, named).SerializeToString())


def of(fate: str, rows: Sequence[Row] = ROWS) -> list[Row]:
    return [row for row in rows if row.fate == fate]


def name(case: Row | Mood) -> str:
    return case.name


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("row", of("refused"), ids=name)
def test_a_plugin_is_refused_with_its_reason(site: Site, refused_plugins: Refusals, row: Row) -> None:
    assert_refused(site[1], refused_plugins, row)


@pytest.mark.usefixtures("alive_in_the_dark")
@pytest.mark.parametrize("row", of("refused", ENDING), ids=name)
def test_a_plugin_whose_import_ends_or_hangs_is_refused(dark: Site, refused_in_the_dark: Refusals, row: Row) -> None:
    assert_refused(dark[1], refused_in_the_dark, row)


def assert_refused(wire: Wire, refused: Refusals, row: Row) -> None:
    entry = refused[row.distribution]
    assert entry.code == row.code and row.says in entry.reason, entry
    assert len(entry.reason) < 1000 and not [leak for leak in LEAKS if leak in entry.reason]
    assert refusal(wire, row.model).code is StatusCode.NOT_FOUND


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("row", of("failed"), ids=name)
def test_a_model_fails_with_its_reason(site: Site, row: Row) -> None:
    assert_failed(site[1], row)


@pytest.mark.usefixtures("alive_in_the_dark")
@pytest.mark.parametrize("row", of("failed", ENDING), ids=name)
def test_a_model_whose_load_ends_or_hangs_fails(dark: Site, row: Row) -> None:
    assert_failed(dark[1], row)


def assert_failed(wire: Wire, row: Row) -> None:
    got = refusal(wire, row.model)
    assert (got.code, got.reason) == (StatusCode.FAILED_PRECONDITION, "MODEL_FAILED"), got.everything
    assert f"{row.code}: " in got.text and row.says in got.text and row.model in got.text
    assert len(got.text) < 1000 and not [leak for leak in LEAKS if leak in got.everything]


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("row", of("serves"), ids=name)
def test_what_harms_nobody_is_served(site: Site, row: Row) -> None:
    assert np.array_equal(answer(site[1], row.model, X), X)


def test_no_process_is_left_behind(site: Site) -> None:
    """But the workers, and what a plugin has started in its own."""
    running, _ = site
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running.children()]
    assert all(b"mercato_server.runtime" in command for command in commands)
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if str(running.home).encode() in own(path)]


def own(path: Path) -> bytes:
    """A process's environment when it is a `sleep`; others may belong to somebody else or end meanwhile."""
    try:
        return path.read_bytes() if path.with_name("comm").read_text() == "sleep\n" else b""
    except OSError:
        return b""


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("mood", MOODS, ids=name)
def test_a_bad_answer_is_internal_and_the_next_is_fine(site: Site, mood: Mood) -> None:
    running, wire = site
    x = upset(MOODS.index(mood))
    if mood.says:
        got = refusal(wire, MOODY, x)
        assert got.code is StatusCode.INTERNAL and got.reason == mood.reason, got.everything
        assert mood.says in got.text and len(got.text) < 300
        assert got.facts["id"] in got.text and got.facts["id"] in running.log
        assert not [leak for leak in LEAKS if leak in got.everything]
    else:
        expected = {"right": x, "backwards": x[:, ::-1], "nan": np.full_like(x, np.nan)}[mood.answer]
        assert np.array_equal(answer(wire, MOODY, x), expected, equal_nan=True)
    assert np.array_equal(answer(wire, MOODY, X), X)


@pytest.mark.usefixtures("alive_in_the_dark")
@pytest.mark.parametrize("mood", DARK_MOODS, ids=name)
def test_a_model_harms_its_own_process_alone(dark: Site, mood: Mood) -> None:
    _, wire = dark
    x = upset(DARK_MOODS.index(mood))
    if mood.says:
        assert_harmed(wire, MOODY, x, mood)
    else:
        assert np.array_equal(answer(wire, MOODY, x), x)
    if mood.lasting:
        os.kill(worker(dark, "mercato-moody"), signal.SIGKILL)
    assert np.array_equal(again(wire, MOODY), X)


@pytest.mark.usefixtures("alive_in_the_dark")
def test_a_graph_that_loops_on_some_inputs_loses_its_worker(dark: Site) -> None:
    _, wire = dark
    assert np.array_equal(answer(wire, LOOPING, X), X)
    assert_harmed(wire, LOOPING, 2000 * X, LOOPS)
    assert np.array_equal(again(wire, LOOPING), X)


def assert_harmed(wire: Wire, model: str, x: np.typing.NDArray[np.float32], mood: Mood) -> None:
    got = refusal(wire, model, x)
    code = StatusCode.UNAVAILABLE if mood.reason == "WORKER_CRASHED" else StatusCode.INTERNAL
    assert (got.code, got.reason) == (code, mood.reason), got.everything
    assert mood.says in got.text and model in got.text and len(got.text) < 300
    assert not [leak for leak in LEAKS if leak in got.everything]


def worker(site: Site, distribution: str) -> int:
    """The process of a plugin."""
    socket = site[0].home.parent / "admin" / "socket"
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        listed = admin_pb2_grpc.AdminServiceStub(channel).ListWorkers(admin_pb2.ListWorkersRequest(), timeout=20)
    [pid] = [worker.pid for worker in listed.workers if worker.plugin.distribution == distribution]
    return int(pid)


def upset(mood: int) -> np.typing.NDArray[np.float32]:
    """A batch that puts the model into this mood."""
    x = X.copy()
    x[0, 0] = 100 + mood
    return x


def again(wire: Wire, model: str) -> np.typing.NDArray[np.float32]:
    """The answer of a model whose worker may be starting again."""
    until = time.monotonic() + RESTART
    while True:
        try:
            return answer(wire, model, X)
        except grpc.RpcError as error:
            if error.code() is not StatusCode.UNAVAILABLE or time.monotonic() > until:
                raise
