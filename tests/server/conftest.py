"""One filled store and one server for the whole run, and the ways to talk to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tests.server.calls import Wire
from tests.server.running import Running, environment

Start = Callable[..., Running]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the reference models that has filled the store itself; it must end with exit code 0."""
    folder = tmp_path_factory.mktemp("server")
    running = Running(folder / "store", folder / "work", environment(folder / "home"))
    try:
        running.ready()
        yield running
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()
    assert "Traceback" not in running.log


@pytest.fixture(scope="session")
def store(server: Running) -> Path:
    """The filled store; servers that use it start without an export."""
    return server.home.parent / "store"


@pytest.fixture(scope="session")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def wire(channel: grpc.Channel) -> Wire:
    """Calls of the shared server."""
    return Wire(channel)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server of the test's own: `start(store, *flags, plugins=..., listen=..., **environment)`."""
    started: list[Running] = []

    def run(store: Path, *flags: str, plugins: tuple[str, ...] = ("mercato-pricing",), **more: str) -> Running:
        folder = tmp_path / f"server{len(started)}"
        listen = more.pop("listen", "127.0.0.1:0")
        started.append(Running(store, folder, environment(folder / "home", plugins, **more), *flags, listen=listen))
        return started[-1]

    yield run
    for running in started:
        running.kill()
