"""A worker process started, used, crashed, hung and ended for real, seen through its host."""

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.gate import install
from tests.server.runtime.made import artifact, double

from mercato_plugin import ModelSpec, Secret, Tensor
from mercato_plugin.frozen import freeze
from mercato_server.contract.batch import JoinedBatch
from mercato_server.contract.host import Loaded, Placement
from mercato_server.contract.lane import NotRun
from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import InvalidRequest, LoadFailed, Overloaded, PluginFault, PluginRefused, WorkerCrashed
from mercato_server.runtime import process, process_lane
from mercato_server.runtime.process import ProcessHost, WorkerLimits

PLUGIN = """
import ctypes, os, signal, sys, time
from dataclasses import dataclass

import numpy as np

from mercato_plugin import InvalidInput, Model, ModelSpec, Secret, Tensor, hookimpl, setting

ROW = Tensor("float32", ("batch", 2))
FOLDER = os.environ["FOLDER"]


def stop(place):
    with open(f"{FOLDER}/{place}.reached", "w") as told:
        told.write("x")
    with open(f"{FOLDER}/{place}.go") as go:
        go.read(1)


TOP

@dataclass(frozen=True)
class Settings:
    word: str = setting("none", doc="A word.", build=False)
    key: Secret = setting(Secret(""), doc="A secret.", build=False)


class Made(Model):
    spec = ModelSpec(name="shop.double", inputs={"x": ROW}, outputs={"y": ROW})
    settings = Settings

    def load(self, ctx):
        print("plugins may print")
        self.told = ctx.settings
        LOAD

    def preprocess(self, batch):
        mood = int(batch.inputs["x"][0, 0])
        if mood == -1:
            stop("run")
        elif mood == -2:
            os.kill(os.getpid(), signal.SIGKILL)
        elif mood == -3:
            ctypes.string_at(0)
        elif mood == -4:
            raise InvalidInput("x", "is bad", rows=None)
        elif mood == -5:
            raise ValueError("strange")
        elif mood == -6:
            while True:
                pass
        elif mood == -7:
            os.closerange(3, 256)
        elif mood == -8:
            batch.reject(1, "x", "is odd")
        elif mood == -9:
            sys.exit(0)
        elif mood == -14:
            child = os.fork()
            if child == 0:
                time.sleep(600)
            with open(f"{FOLDER}/forked", "w") as told:
                told.write(str(child))
        return batch.inputs

    def postprocess(self, outputs, batch):
        facts = {-10: [os.getpid(), os.getppid()], -11: [len(self.told.word), len(self.told.key)],
                 -12: [len([n for n in os.environ if n.startswith("MERCATO")]), 0],
                 -13: [os.getsid(0), "onnxruntime" in sys.modules]}
        mood = int(batch.inputs["x"][0, 0])
        return {"y": np.array([facts[mood]], "float32")} if mood in facts else outputs


@hookimpl
def mercato_models():
    return [Made()]
"""

ROW = Tensor("float32", ("batch", 2))
SPEC = ModelSpec(name="shop.double", inputs={"x": ROW}, outputs={"y": ROW})

ENDED = "the answer was ready; the request may have run"

Start = Callable[..., Any]


def asked(*moods: float, deadline: float | None = None) -> JoinedBatch:
    """One row per mood; its second number is 1."""
    rows = np.array([[mood, 1] for mood in moods], np.float32)
    return JoinedBatch({"x": rows}, len(moods), deadline=deadline)


def placement(folder: Path) -> Placement:
    folder.mkdir()
    made = artifact(folder, SPEC, {"model": double()}, [{"x": [[1, 2]]}])
    (folder / "spec.json").write_text(json.dumps(freeze(SPEC)))
    (folder / "certificate.json").write_text(json.dumps(made.certificate.to_json()))
    return Placement(made, "cpu", 1)


class Stop:
    """The test's side of one place where the plugin stops."""

    def __init__(self, folder: Path, place: str) -> None:
        self.told, self.go = folder / f"{place}.reached", folder / f"{place}.go"
        os.mkfifo(self.told)
        os.mkfifo(self.go)

    async def reached(self) -> None:
        await asyncio.to_thread(self.told.read_text)

    async def open(self) -> None:
        await asyncio.to_thread(self.go.write_text, "g")


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Makes hosts of the plugin that are not started: `start(top=..., load=..., given=..., **limits)`."""
    hosts: list[ProcessHost] = []
    monkeypatch.setenv("FOLDER", str(tmp_path))

    def make(top: str = "", load: str = "pass", given: Any = None, **limits: Any) -> ProcessHost:
        name = f"mercato-made-{len(hosts)}"
        path = install(tmp_path / name, name, PLUGIN.replace("TOP", top).replace("LOAD", load))
        monkeypatch.setenv("PYTHONPATH", path)
        module = name.replace("-", "_")
        hosts.append(ProcessHost(PluginInfo(name, "1.0", module, module), given or {}, WorkerLimits(**limits)))
        return hosts[-1]

    yield make
    for host in hosts:
        await host.close()


async def opened(host: ProcessHost, folder: Path) -> Any:
    """A started host's lane, loaded and warm."""
    await host.start()
    lane = host.lane("shop.double", placement(folder))
    await lane.load()
    assert (await lane.warm()).providers == ("cpu",)
    return lane


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def stop(pid: int) -> None:
    """Stop a process of ours; when this returns every thread of it stands."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{entry.name} {entry.readlink()}")
    return {entry for entry in found if "memfd" in entry or "socket" in entry}


async def test_from_the_start_to_the_end(start: Start, tmp_path: Path) -> None:
    before = descriptors()
    host = start(given={"word": "red", "key": Secret("hush")})
    (offer,) = (await host.start()).models
    assert (offer.spec, offer.plugin, len(offer.key)) == (SPEC, host.plugin, 64)
    assert host.pid != os.getpid() and host.memory() > 10_000_000
    lane = host.lane("shop.double", placement(tmp_path / "artifact"))
    await lane.load()
    loaded = await lane.warm()
    assert isinstance(loaded, Loaded) and loaded.providers == ("cpu",) and loaded.nbytes >= 0

    assert (await lane.run(asked(2, 3))).outputs["y"].tolist() == [[4, 2], [6, 2]]
    assert (await lane.run(asked(-10))).outputs["y"].tolist() == [[host.pid, os.getpid()]]
    assert (await lane.run(asked(-11))).outputs["y"].tolist() == [[len("red"), len("hush")]]
    assert (await lane.run(asked(-13))).outputs["y"].tolist() == [[host.pid, 1]]
    await lane.close()
    await lane.close()
    with pytest.raises(WorkerCrashed):
        await lane.run(asked(1))
    pid = host.pid
    await host.close()
    await host.close()
    assert not is_alive(pid) and host.memory() == 0
    assert descriptors() == before


async def test_the_servers_own_settings_stay_with_the_server(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERCATO_PLUGINS__OTHER__KEY", "hush")
    lane = await opened(start(), tmp_path / "artifact")
    assert (await lane.run(asked(-12))).outputs["y"].tolist() == [[0, 0]]


async def test_errors_keep_their_kind(start: Start, tmp_path: Path) -> None:
    lane = await opened(start(), tmp_path / "artifact")
    with pytest.raises(InvalidRequest) as refused:
        await lane.run(asked(-4))
    assert [(v.field, v.description) for v in refused.value.violations] == [("inputs.x", "is bad")]
    for mood in (-5, -9):
        with pytest.raises(PluginFault, match=r"^model 'shop.double' failed \(id [0-9a-f]{12}\)$") as fault:
            await lane.run(asked(mood))
        assert fault.value.id in str(fault.value)
    result = await lane.run(asked(-8, 3))
    assert result.rejected == {1: ("x", "is odd")}
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]


async def test_one_runs_and_one_is_prepared_and_a_third_waits(start: Start, tmp_path: Path) -> None:
    stop = Stop(tmp_path, "run")
    lane = await opened(start(), tmp_path / "artifact")
    runs = [asyncio.create_task(lane.run(asked(mood))) for mood in (-1, 2, 3)]
    await stop.reached()
    assert lane._permits.locked() and len(lane._flights) == 2
    await stop.open()
    assert [result.outputs["y"][0, 0] for result in await asyncio.gather(*runs)] == [-2, 4, 6]


async def test_what_is_cancelled_or_late_before_its_turn_is_never_run(start: Start, tmp_path: Path) -> None:
    stop = Stop(tmp_path, "run")
    lane = await opened(start(), tmp_path / "artifact")
    running = asyncio.create_task(lane.run(asked(-1)))
    await stop.reached()
    prepared = asyncio.create_task(lane.run(asked(-2)))  # would end the worker
    await asyncio.sleep(0)
    prepared.cancel()
    with pytest.raises(asyncio.CancelledError):
        await prepared
    await stop.open()
    await running
    with pytest.raises(NotRun):
        await lane.run(asked(-2, deadline=0.001))
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]


async def test_closing_finishes_what_runs(start: Start, tmp_path: Path) -> None:
    stop = Stop(tmp_path, "run")
    lane = await opened(start(), tmp_path / "artifact")
    running = asyncio.create_task(lane.run(asked(-1)))
    await stop.reached()
    closing = asyncio.create_task(lane.close())
    await stop.open()
    await closing
    assert (await running).outputs["y"].tolist() == [[-2, 2]]


@pytest.mark.parametrize(
    ("mood", "why"), [(-2, "was ended by signal SIGKILL"), (-3, "was ended by signal SIGSEGV")], ids=["killed", "null"]
)
async def test_a_crash_fails_what_was_under_way_and_says_how(
    start: Start, tmp_path: Path, mood: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = descriptors()
    host = start()
    lane = await opened(host, tmp_path / "artifact")
    runs = [asyncio.create_task(lane.run(asked(m))) for m in (mood, 2, 3)]
    assert await asyncio.wait_for(host.ended(), 30) == why
    for run, text in zip(runs, (ENDED, ENDED, "the request's turn came"), strict=True):
        with pytest.raises(WorkerCrashed, match=f"model 'shop.double': its worker ended before {text}") as crashed:
            await run
        assert crashed.value.may_have_run == (text == ENDED)
    with pytest.raises(WorkerCrashed, match="turn came"):
        await lane.run(asked(1))
    (record,) = [record for record in caplog.records if "the worker of" in record.message]
    assert record.message == f"the worker of mercato-made-0 {why}"
    assert ("preprocess" in getattr(record, "output", "")) == (mood == -3)
    await lane.close()
    await host.close()
    assert descriptors() == before


async def test_a_batch_that_does_not_end_ends_its_worker_which_says_where(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = start(batch_timeout=0.5)
    lane = await opened(host, tmp_path / "artifact")
    for _ in range(3):
        assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]
    with pytest.raises(WorkerCrashed):
        await lane.run(asked(-6))
    assert await host.ended() == "was ended: a batch of model 'shop.double' took longer than 0.5 s"
    (record,) = [record for record in caplog.records if "the worker of" in record.message]
    assert "in preprocess" in getattr(record, "output", "")


async def test_a_process_that_closes_its_line_is_ended(start: Start, tmp_path: Path) -> None:
    host = start()
    lane = await opened(host, tmp_path / "artifact")
    with pytest.raises(WorkerCrashed):
        await lane.run(asked(-7))
    assert (await host.ended()).startswith(("was ended", "ended"))


@pytest.mark.parametrize(
    ("top", "code", "why"),
    [
        ("os._exit(3)", "IMPORT_CRASHED", "the worker ended with exit code 3 while it imported"),
        ("ctypes.string_at(0)", "IMPORT_CRASHED", "the worker was ended by signal SIGSEGV while it imported"),
        ("while True: pass", "IMPORT_TIMEOUT", "the worker was ended: the import took longer than 2 s while it"),
        ("sys.exit(0)", "IMPORT_FAILED", "cannot be imported"),
        ("import torch", "IMPORTS_BUILD_TOOLS", "imports torch"),
        ("1 / 0", "IMPORT_FAILED", "ZeroDivisionError"),
    ],
    ids=["exits", "null", "hangs", "SystemExit", "torch", "raises"],
)
async def test_an_import_that_fails_is_a_refusal(start: Start, top: str, code: str, why: str) -> None:
    host = start(top=top, import_timeout=2 if code == "IMPORT_TIMEOUT" else 60)
    with pytest.raises(PluginRefused, match=why) as refused:
        await host.start()
    assert refused.value.code == code
    assert not is_alive(host.pid)


@pytest.mark.parametrize(
    ("load", "why"),
    [
        ("os._exit(0)", "the worker ended with exit code 0 while loading shop.double was under way"),
        ("while True: time.sleep(1)", "loading shop.double took longer than 1 s"),
        ("raise ValueError('no')", "load of shop.double raised ValueError: no"),
    ],
    ids=["exits", "hangs", "raises"],
)
async def test_a_load_that_fails_is_told(start: Start, tmp_path: Path, load: str, why: str) -> None:
    host = start(load=load, load_timeout=1 if "longer" in why else 60)
    await host.start()
    lane = host.lane("shop.double", placement(tmp_path / "artifact"))
    with pytest.raises(LoadFailed, match=why):
        await lane.load()
    await lane.close()


async def test_two_lanes_of_one_process_do_not_wait_for_each_other(start: Start, tmp_path: Path) -> None:
    stop = Stop(tmp_path, "run")
    host = start()
    one = await opened(host, tmp_path / "artifact")
    other = host.lane("shop.double", placement_again(tmp_path / "artifact"))
    await other.load()
    running = asyncio.create_task(one.run(asked(-1)))
    await stop.reached()
    assert (await other.run(asked(2))).outputs["y"].tolist() == [[4, 2]]
    await stop.open()
    await running
    await other.close()
    assert (await one.run(asked(3))).outputs["y"].tolist() == [[6, 2]]


def placement_again(folder: Path) -> Placement:
    from mercato_server.contract.artifact import Artifact
    from mercato_server.contract.certificate import Certificate

    certificate = Certificate.from_json(json.loads((folder / "certificate.json").read_text()))
    return Placement(Artifact("d" * 64, folder, SPEC, certificate, "mercato-made", "1.0", {}), "cpu", 1)


async def test_a_large_batch_passes_and_its_memory_is_given_back(start: Start, tmp_path: Path) -> None:
    lane = await opened(start(), tmp_path / "artifact")
    large = JoinedBatch({"x": np.ones((1_000_000, 2), np.float32)}, 1_000_000)
    assert (await lane.run(large)).outputs["y"].sum() == 4_000_000
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]


async def test_a_process_outlives_neither_its_server_nor_a_stopped_one(start: Start, tmp_path: Path) -> None:
    host = start()
    await opened(host, tmp_path / "artifact")
    stop(host.pid)
    await host.close()
    assert not is_alive(host.pid)


async def test_a_version_that_is_not_let_go_of_ends_its_worker(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_lane, "CLOSE_SECONDS", 0.2)
    host = start()
    lane = await opened(host, tmp_path / "artifact")
    stop(host.pid)
    await lane.close()
    assert await host.ended() == "was ended: closing model 'shop.double' took longer than 0.2 s"


async def test_a_lane_of_a_host_that_has_ended_is_lost_from_the_start(start: Start, tmp_path: Path) -> None:
    before = descriptors()
    host = start()
    await host.start()
    os.kill(host.pid, signal.SIGKILL)
    await host.ended()
    lane = host.lane("shop.double", placement(tmp_path / "artifact"))
    with pytest.raises(LoadFailed, match="the worker was ended by signal SIGKILL while loading shop.double"):
        await lane.load()
    await lane.close()
    await host.close()
    assert descriptors() == before


async def test_a_batch_without_room_fails_alone(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = await opened(start(), tmp_path / "artifact")
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]

    def full(*facts: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "memfd_create", full)
        for _ in range(3):
            with pytest.raises(Overloaded, match="has no memory or descriptors left for the batch; retry later"):
                await lane.run(JoinedBatch({"x": np.ones((100_000, 2), np.float32)}, 100_000))
        await lane.run(JoinedBatch({"x": np.ones((10, 2), np.float32)}, 10))
    assert (await lane.run(asked(2))).outputs["y"].tolist() == [[4, 2]]
    assert (await lane.run(JoinedBatch({"x": np.ones((100_000, 2), np.float32)}, 100_000))).outputs["y"].sum() == 4e5


@pytest.mark.parametrize("call", ["memfd_create", "pidfd_open"])
async def test_a_start_without_descriptors_is_told_and_leaves_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*facts: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    before = descriptors()
    host = start()
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(
            PluginRefused, match="mercato-made-0: no worker can be started: OSError.* Too many"
        ) as refused:
            await host.start()
    assert refused.value.code == "IMPORT_CRASHED"
    assert descriptors() == before and not (host.pid and is_alive(host.pid))


@pytest.mark.parametrize(
    "said",
    [
        "import socket; socket.socket(fileno=int(sys.argv[2])).send(b'x' * 24)",
        "import socket; socket.socket(fileno=int(sys.argv[2])).send(bytes([7]) + bytes(23))",
        "import socket; socket.socket(fileno=int(sys.argv[2])).send(b'x')",
    ],
    ids=["a strange message", "an empty answer", "a short one"],
)
async def test_what_a_plugin_says_on_the_line_is_its_own_refusal(start: Start, said: str) -> None:
    host = start(top=said)
    with pytest.raises(PluginRefused) as refused:
        await host.start()
    assert refused.value.code in ("IMPORT_FAILED", "IMPORT_CRASHED")
    assert not is_alive(host.pid)


async def test_a_task_that_is_cancelled_after_its_answer_was_read_takes_no_other_batch_out(
    start: Start, tmp_path: Path
) -> None:
    lane = await opened(start(), tmp_path / "artifact")
    for _ in range(200):
        early = asyncio.create_task(lane.run(asked(2)))
        await asyncio.sleep(0)
        (flight,) = lane._flights.values()
        read = asyncio.Event()
        flight.answer.add_done_callback(lambda _, read=read: read.set())
        await read.wait()
        later = asyncio.create_task(lane.run(asked(5)))
        early.cancel()
        assert (await later).outputs["y"].tolist() == [[10, 2]]
        await asyncio.gather(early, return_exceptions=True)


async def test_what_a_plugin_forks_ends_with_its_worker(start: Start, tmp_path: Path) -> None:
    host = start()
    lane = await opened(host, tmp_path / "artifact")
    await lane.run(asked(-14))
    forked = int((tmp_path / "forked").read_text())
    assert is_alive(forked)
    descriptor = os.pidfd_open(forked)
    os.kill(host.pid, signal.SIGKILL)  # and not its group, as when the server is killed
    ready, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], 20)
    os.close(descriptor)
    assert ready


async def test_a_server_that_was_upgraded_on_disk_is_to_be_restarted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SERVER", "0.0.9")
    with pytest.raises(PluginRefused, match=r"mercato-server .* was installed while 0\.0\.9 runs; restart") as refused:
        await start().start()
    assert refused.value.code == "API_VERSION"
