"""The file of the admin socket: who may reach it, and what it never takes the place of."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from tests.server.rpc.desk import Desk

from mercato_server.errors import ConfigError
from mercato_server.rpc import admin_socket
from mercato_server.rpc.admin_listener import AdminServer
from mercato_server.rpc.admin_socket import AdminSocket
from mercato_server.rpc.health import Health
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import Limits
from mercato_server.serving.catalog import Catalog


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run" / "admin.sock"


def bound(listening: socket.socket, seen: list[int] | None = None) -> object:
    """What `place` takes: binds as gRPC does, and notes who could reach the socket meanwhile."""

    def bind(address: str) -> None:
        path = Path(address.removeprefix("unix:"))
        listening.bind(str(path))
        listening.listen()
        if seen is not None:
            seen.append(stat.S_IMODE(path.parent.stat().st_mode))

    return bind


async def test_folder_and_socket_are_the_users_alone_whatever_the_umask(listener: AdminServer, place: Path) -> None:
    before = os.umask(0)
    try:
        assert await listener.start(f"unix:{place}") == f"unix:{place}"
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.lstat(place.parent).st_mode) == 0o700
    assert stat.S_IMODE(os.lstat(place).st_mode) == 0o600
    assert os.listdir(place.parent) == [place.name]


def test_nobody_can_reach_a_socket_that_is_being_made(listening: socket.socket, place: Path) -> None:
    seen: list[int] = []
    place.parent.mkdir(mode=0o700)
    AdminSocket(place).place(bound(listening, seen))  # type: ignore[arg-type]
    assert seen == [0o700]


async def test_a_path_may_hold_what_addresses_may_not(listener: AdminServer, tmp_path: Path) -> None:
    place = tmp_path / "a b%20c 价" / "a?b#c.sock"
    await listener.start(f"unix:{place}")
    async with grpc.aio.insecure_channel(admin_socket.address(place)) as channel:
        untyped: object = await channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=20)  # type: ignore[arg-type]
        assert isinstance(untyped, bytes)


async def test_the_socket_goes_with_its_server(listener: AdminServer, place: Path) -> None:
    await listener.start(f"unix:{place}")
    await listener.stop(0)
    assert os.listdir(place.parent) == []


async def test_a_living_server_keeps_its_socket(listener: AdminServer, place: Path, desk: Desk) -> None:
    await listener.start(f"unix:{place}")
    there = os.lstat(place).st_ino
    second = AdminServer(Catalog(), desk, Limits(), Observation(), Health())
    with pytest.raises(ConfigError, match="admin_listen: a server listens on 'admin.sock' already; stop it, or set"):
        await second.start(f"unix:{place}")
    await second.stop(0)
    assert os.lstat(place).st_ino == there and os.listdir(place.parent) == [place.name]
    async with grpc.aio.insecure_channel(admin_socket.address(place)) as channel:
        assert await channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=20)  # type: ignore[arg-type]


async def test_a_server_that_does_not_answer_keeps_its_socket(
    listener: AdminServer, place: Path, listening: socket.socket
) -> None:
    place.parent.mkdir(mode=0o700)
    listening.bind(str(place))
    listening.listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(place))  # which fills its queue
        with pytest.raises(ConfigError, match="listens on 'admin.sock' already"):
            await listener.start(f"unix:{place}")


async def test_a_dead_socket_is_replaced(listener: AdminServer, place: Path, listening: socket.socket) -> None:
    place.parent.mkdir(mode=0o700)
    listening.bind(str(place))
    listening.close()
    await listener.start(f"unix:{place}")
    with socket.socket(socket.AF_UNIX) as calling:
        calling.connect(str(place))
    assert os.listdir(place.parent) == [place.name]


async def test_sockets_that_killed_servers_left_are_swept_away(
    listener: AdminServer, place: Path, listening: socket.socket
) -> None:
    place.parent.mkdir(mode=0o700)
    for name in ("admin-1.sock", "other.sock"):
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(place.with_name(name)))
    listening.bind(str(place.with_name("admin-2.sock")))
    listening.listen()
    os.mkfifo(place.with_name("admin-3.sock"))
    await listener.start(f"unix:{place}")
    assert sorted(os.listdir(place.parent)) == ["admin-2.sock", "admin-3.sock", "admin.sock", "other.sock"]


async def test_the_socket_of_a_later_server_stays(listener: AdminServer, place: Path, listening: socket.socket) -> None:
    await listener.start(f"unix:{place}")
    os.unlink(place)
    listening.bind(str(place))
    await listener.stop(0)
    assert stat.S_ISSOCK(os.lstat(place).st_mode)


async def test_what_is_no_socket_is_left_alone(listener: AdminServer, place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    os.mkfifo(place)
    with pytest.raises(ConfigError, match="'admin.sock' is there and is no socket"):
        await listener.start(f"unix:{place}")
    os.rename(place, place.with_name("other"))
    os.symlink("other", place)
    with pytest.raises(ConfigError, match="'admin.sock' is there and is no socket"):
        await listener.start(f"unix:{place}")
    assert sorted(os.listdir(place.parent)) == ["admin.sock", "other"]


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
async def test_a_folder_that_is_open_to_others_is_refused(listener: AdminServer, place: Path, mode: int) -> None:
    place.parent.mkdir()
    place.parent.chmod(mode)
    with pytest.raises(ConfigError, match=rf"open to others \(mode {mode:04o}.*give it mode 0700") as raised:
        await listener.start(f"unix:{place}")
    assert str(place.parent) not in str(raised.value)
    assert os.listdir(place.parent) == []


async def test_a_folder_that_is_a_link_is_refused(listener: AdminServer, place: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    place.parent.symlink_to("real")
    with pytest.raises(ConfigError, match="the folder of the socket is a link or no folder"):
        await listener.start(f"unix:{place}")


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        admin_socket.check_folder(tmp_path)


async def test_a_folder_that_cannot_be_made_is_refused(listener: AdminServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used: No such file or directory; set admin_listen"):
        await listener.start(f"unix:{tmp_path}/absent/run/admin.sock")


@pytest.mark.parametrize("name", ["a.sock", "a-much-longer-name.sock"])
async def test_the_longest_path_works_and_a_longer_one_is_refused_by_number(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    limit = 107 - max(0, 10 - len(name))
    folder = tmp_path / ("x" * (limit - len(str(tmp_path)) - 2 - len(name)))
    for path, fits in ((folder / name, True), (folder.with_name(f"{folder.name}x") / name, False)):
        server = AdminServer(Catalog(), desk, Limits(), Observation(), Health())
        if fits:
            await server.start(f"unix:{path}")
        else:
            with pytest.raises(ConfigError, match=f"has {limit + 1} bytes, expected at most {limit}; set"):
                await server.start(f"unix:{path}")
        await server.stop(0)


async def test_a_loopback_port_is_told(listener: AdminServer) -> None:
    address = await listener.start("127.0.0.1:0")
    assert address.startswith("127.0.0.1:") and not address.endswith(":0")
    second = AdminServer(Catalog(), Desk(), Limits(), Observation(), Health())
    with pytest.raises(ConfigError, match=f"admin_listen: cannot listen on {address}: the port is taken"):
        await second.start(address)
    await second.stop(0)
