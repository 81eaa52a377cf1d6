"""One filled store and one server for the whole run, and the ways to talk to it; a folder may have its own."""

import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.server.calls import Wire
from tests.server.running import Running, environment


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Let go of the handler that a command has set for the log: it holds the test's own standard error."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]


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
