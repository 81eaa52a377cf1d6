"""A new worker that ends after it was warmed and before it is swapped in: it is looked at once more in between."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tests.server.calls import Wire, failed
from tests.server.faults.callers import Caller, History, Traffic
from tests.server.faults.history import counts
from tests.server.faults.plugin import ANSWERED
from tests.server.faults.site import VICTIM, Site, distribution, gone, model

from mercato.v1 import admin_pb2, admin_pb2_grpc
from mercato_server import config
from mercato_server.app import App
from mercato_server.contract.artifact import Artifact
from mercato_server.store import Store


@pytest.fixture
async def app(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """A server in this process, so that the gap can be hit; its workers are processes."""
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(site.folder / "site")
    monkeypatch.setenv("MERCATO_PLUGINS_ALLOW", f'["{distribution(VICTIM)}"]')
    (folder := tmp_path / "admin").mkdir(mode=0o700)
    settings = config.load(
        listen="127.0.0.1:0", metrics_listen="off", probe_listen="off", store=site.store,
        admin_listen=f"unix:{folder / 'socket'}",
    )  # fmt: skip
    made = App(settings, lambda model, progress: None)
    await made.start(lambda port: None)
    yield made
    await made.stop()


async def test_the_old_version_serves_on(app: App, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, killed = own_workers(), set[int]()
    look = Store.check_unchanged

    def kill_the_new_one(store: Store, artifact: Artifact) -> None:
        look(store, artifact)
        killed.update(own_workers() - old)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
            assert gone(pid)

    monkeypatch.setattr(Store, "check_unchanged", kill_the_new_one)
    site.upgrade(VICTIM, 2)
    refused, history = await asyncio.to_thread(loaded_under_traffic, app, tmp_path / "admin" / "socket")

    assert len(killed) == 1 and own_workers() == old
    assert "was ended by signal SIGKILL" in refused and "what served before serves on" in refused
    assert counts(history.calls).keys() == {ANSWERED}
    assert {call.version for call in history.calls} == {1}
    assert sorted(app.catalog.models[model(VICTIM)]) == [1]


def loaded_under_traffic(app: App, socket: Path) -> tuple[str, History]:
    """What the load of the victim was refused with, and the calls meanwhile."""
    history = History()
    with grpc.insecure_channel(f"127.0.0.1:{app.port}") as data, grpc.insecure_channel(f"unix:{socket}") as admin:
        with Traffic(Caller(Wire(data).channel, model(VICTIM), history)):
            history.more(model(VICTIM), 5)
            stub = admin_pb2_grpc.AdminServiceStub(admin)
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.Load(admin_pb2.LoadRequest(plugin=distribution(VICTIM)), timeout=60))
            history.more(model(VICTIM), 5)
        return failed(caught.value).text, history


def own_workers() -> set[int]:
    """The worker processes of this process."""
    tasks = Path("/proc/self/task").glob("*/children")
    children = {int(pid) for task in tasks for pid in task.read_text().split()}
    return {pid for pid in children if b"mercato_server.runtime" in Path(f"/proc/{pid}/cmdline").read_bytes()}
