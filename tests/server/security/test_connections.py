"""What bounds a connection: callers that are gone, handshakes that never end, age, and the oldest TLS."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from hyperframe.frame import Frame, PingFrame, SettingsFrame
from tests.server.bad.wire_peer import PREFACE, Peer, Reply, call
from tests.server.security.conftest import ORDERS
from tests.server.security.secured import Files, Secured

from mercato_server.rpc import port
from mercato_server.rpc.core import Server
from mercato_server.rpc.tls import Certificates, TlsFiles

SHORT = 1
REFUSED = (7, 11)  # REFUSED_STREAM, ENHANCE_YOUR_CALM


@asynccontextmanager
async def connected(bound: int) -> AsyncIterator[Any]:
    """A channel; grpc's types know no call without serialisers."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{bound}") as channel:
        yield channel


@asynccontextmanager
async def echo(connection_age: float = 0.0, files: Files | None = None) -> AsyncIterator[int]:
    """A server with our options that answers with the address of its caller, on streams too; its port."""

    async def one(request: bytes, context: Any) -> bytes:
        return str(context.peer()).encode()

    async def many(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield str(context.peer()).encode()

    server = Server(port.options(4096, connection_age))
    methods: dict[str, Any] = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Many": grpc.stream_stream_rpc_method_handler(many),
    }
    server.add_registered_method_handlers("Echo", methods)
    certificates = Certificates(TlsFiles(files.cert, files.key)) if files else None
    bound = port.bind(server, "listen", "127.0.0.1:0", certificates.credentials() if certificates else None)
    await server.start()
    yield bound
    await server.stop(0)


def received(bound: int, sent: bytes) -> bytes:
    """All that a caller gets who sends this, and is silent until the server closes."""
    with socket.create_connection(("127.0.0.1", bound), timeout=60) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize("polite", [True, False], ids=["settings acknowledged", "settings ignored"])
async def test_the_calls_of_a_connection_are_bounded(polite: bool) -> None:
    async with echo() as bound:
        reply = await asyncio.to_thread(one_call_too_many, f"127.0.0.1:{bound}", polite)
    assert reply.reset in REFUSED


def one_call_too_many(address: str, polite: bool) -> Reply:
    """Calls whose messages never come; what becomes of the last."""
    with Peer(address, {}, polite=polite) as peer:
        last = 2 * port.MAX_STREAMS + 1
        for stream in range(1, last + 1, 2):
            peer.open(stream, call(path=b"/Echo/Many"))
        return peer.reply(last)


def frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        found.append(frame)
        data = data[9 + length :]
    return found


async def test_a_caller_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "KEEPALIVE_SECONDS", SHORT)
    monkeypatch.setattr(port, "ANSWER_SECONDS", SHORT)
    async with echo() as bound:
        hello = PREFACE + SettingsFrame().serialize() + SettingsFrame(flags=["ACK"]).serialize()
        got = await asyncio.to_thread(received, bound, hello)

    assert any(isinstance(frame, PingFrame) for frame in frames(got))
    assert got.endswith(b"ping_timeout")


async def test_a_caller_that_answers_pings_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "KEEPALIVE_SECONDS", SHORT)
    monkeypatch.setattr(port, "ANSWER_SECONDS", SHORT)
    async with echo() as bound, connected(bound) as channel:
        stream = channel.stream_stream("/Echo/Many")()
        await stream.write(b"")
        before = await stream.read()
        gone = await asyncio.to_thread(received, bound, PREFACE + SettingsFrame().serialize())
        await stream.write(b"")

        assert gone.endswith(b"ping_timeout")
        assert await stream.read() == before
        assert await channel.unary_unary("/Echo/One")(b"") == before


async def test_a_connection_of_that_age_is_replaced_without_a_failed_call() -> None:
    async with echo(connection_age=0.2) as bound, connected(bound) as channel:
        stream = channel.stream_stream("/Echo/Many")()
        await stream.write(b"")
        first = await stream.read()
        one = channel.unary_unary("/Echo/One")
        until = time.monotonic() + 30
        while await one(b"") == first:
            assert time.monotonic() < until, "the connection was never replaced"
        await stream.write(b"")

        assert await stream.read() == first
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
async def test_a_handshake_that_never_ends_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_tls: bool
) -> None:
    monkeypatch.setattr(port, "HANDSHAKE_SECONDS", SHORT)
    async with echo(files=Files(tmp_path / "tls") if with_tls else None) as bound:
        await asyncio.to_thread(received, bound, b"")


@pytest.mark.parametrize("newest", ["TLSv1", "TLSv1_1"])
def test_an_older_tls_than_1_2_is_refused(secured: Secured, newest: str) -> None:
    with pytest.warns(DeprecationWarning, match="TLSVersion"), pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(secured, oldest="TLSv1", newest=newest)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_1_2_and_1_3_are_spoken(secured: Secured, version: str) -> None:
    assert handshake(secured, oldest=version, newest=version) == version.replace("_", ".")


def handshake(secured: Secured, *, oldest: str, newest: str) -> str | None:
    """The version that the server agreed to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=secured.files.authority.pem.decode())
    context.load_cert_chain(*secured.caller(ORDERS).written(secured.files.cert.parent / "caller"))
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion[oldest], ssl.TLSVersion[newest]
    with (
        socket.create_connection(("127.0.0.1", secured.port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        return connection.version()
