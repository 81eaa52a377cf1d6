"""A scripted server on a loopback socket, and a client connected to it."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from tests.client.fake import FakeServer

from mercato_client import Client

Serve = Callable[..., FakeServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server: `serve(credentials, port=...)`, in plain text and on a free port unless told otherwise."""
    started: list[FakeServer] = []

    def start(credentials: grpc.ServerCredentials | None = None, port: int = 0) -> FakeServer:
        started.append(FakeServer())
        started[-1].listen(credentials, port)
        return started[-1]

    yield start
    for fake in started:
        fake.stop()


@pytest.fixture
def server(serve: Serve) -> FakeServer:
    return serve()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout=5.0) as connected:
        yield connected


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens: port 1 is reserved."""
    return "127.0.0.1:1"
