"""An admin listener in this process, over an Administration that moves only when told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.server.rpc.desk import Desk

from mercato_server.contract.call import Call
from mercato_server.rpc import admin_socket
from mercato_server.rpc.admin_listener import AdminServer
from mercato_server.rpc.health import Health
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import Limits
from mercato_server.serving.catalog import Catalog

LIMITS = Limits(message_bytes=65_536, fields=64)


class Seen(Observation):
    """What is observed; `ended` is set once a call has."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def end(self, call: Call, code: str) -> None:
        super().end(call, code)
        self.ended.set()


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def seen() -> Seen:
    return Seen()


@pytest.fixture
async def listener(desk: Desk, seen: Seen) -> AsyncIterator[AdminServer]:
    server = AdminServer(Catalog(), desk, LIMITS, seen, Health())
    yield server
    await server.stop(0)


@pytest.fixture
async def admin(listener: AdminServer, tmp_path: Path) -> AsyncIterator[Any]:
    """A channel to the listener on its socket."""
    path = tmp_path / "run" / "admin.sock"
    await listener.start(f"unix:{path}")
    async with grpc.aio.insecure_channel(admin_socket.address(path)) as channel:
        yield channel
