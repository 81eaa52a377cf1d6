"""Who administers: whoever reaches the admin listener, and nobody through the data port."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from tests.server.calls import PREDICT, STREAM, Failed, Wire
from tests.server.rpc.desk import Desk
from tests.server.security.conftest import ADMIN, ORDERS
from tests.server.security.secured import Secured
from tests.server.security.test_access import ADMINISTRATION, METHODS, called

from mercato_server.errors import ConfigError
from mercato_server.rpc import admin_socket
from mercato_server.rpc.access import Access, Rule
from mercato_server.rpc.admin_listener import AdminServer
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import DataServer, Limits
from mercato_server.serving.catalog import Catalog


@pytest.fixture
async def addresses(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """A data port and the admin listener of the same server."""
    catalog, observation, place = Catalog(), Observation(), tmp_path / "run" / "admin.sock"
    data = DataServer(catalog, Limits(), Access(), observation)
    admin = AdminServer(catalog, Desk(), Limits(), observation, data.health)
    port = await data.start("127.0.0.1:0")
    await admin.start(f"unix:{place}")
    yield {"data": f"127.0.0.1:{port}", "admin": admin_socket.address(place)}
    await admin.stop(0)
    await data.stop(0)


async def outcome(address: str, name: str) -> StatusCode:
    """What an empty message to a method comes to."""

    def call() -> StatusCode | Failed:
        with grpc.insecure_channel(address) as channel:
            return called(Wire(channel), name)

    got = await asyncio.to_thread(call)
    return got.code if isinstance(got, Failed) else got


@pytest.mark.parametrize("name", sorted(ADMINISTRATION))
async def test_the_data_port_administers_nothing(addresses: dict[str, str], name: str) -> None:
    assert await outcome(addresses["data"], name) is StatusCode.UNIMPLEMENTED
    assert await outcome(addresses["admin"], name) in (StatusCode.OK, StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("name", [PREDICT[1:], STREAM[1:]])
async def test_the_listener_answers_no_prediction(addresses: dict[str, str], name: str) -> None:
    assert await outcome(addresses["admin"], name) is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("caller", [ADMIN, ORDERS])
@pytest.mark.parametrize("name", sorted(ADMINISTRATION))
def test_no_certificate_administers_through_the_data_port(secured: Secured, name: str, caller: str) -> None:
    with secured.wire(secured.caller(caller)) as wire:
        got = called(wire, name)

    assert isinstance(got, Failed)
    assert got.code is StatusCode.UNIMPLEMENTED


def test_no_row_can_name_a_method_of_administration() -> None:
    rule = Rule(ADMIN, frozenset({"mercato.v1.AdminService/Drain"}), frozenset("*"))
    with pytest.raises(ConfigError, match="names method 'mercato.v1.AdminService/Drain', expected one of"):
        Access([rule]).check_rows(METHODS)
