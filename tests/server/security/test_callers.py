"""Who may connect at all: certificates that are refused in the handshake, and which names of a good one count."""

import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from grpc import StatusCode
from tests.server.bad.wire_peer import PREFACE
from tests.server.calls import PREDICT, pricing
from tests.server.security.authority import COMMON_NAME, FOR_SERVERS, Authority, Issued
from tests.server.security.conftest import ADMIN, ORDERS
from tests.server.security.secured import Secured

STRANGER = Authority()
GOOD = pricing([[4.0]]).SerializeToString()


@dataclass(frozen=True)
class Row:
    """Bad input by its number in the table: the certificate of a caller, the method it calls, and what it gets."""

    number: int
    name: str
    made: Callable[[Authority], Issued | None]
    code: StatusCode = StatusCode.UNAVAILABLE
    method: str = PREDICT


PLAIN_TEXT = {
    "HTTP/2": PREFACE,
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
    "half a record": b"\x16\x03\x01\xff\xff",
    "zeros": bytes(4096),
}
ROWS = [
    Row(77, "a method of administration on the data port", lambda callers: callers.issue(ADMIN),
        StatusCode.UNIMPLEMENTED, "/mercato.v1.AdminService/Unload"),
    Row(78, "no certificate", lambda callers: None),
    Row(78, "another authority", lambda callers: STRANGER.issue(ORDERS)),
    Row(78, "self-signed", lambda callers: callers.issue(ORDERS, self_signed=True)),
    Row(78, "expired", lambda callers: callers.issue(ORDERS, days=(-2, -1))),
    Row(78, "not valid yet", lambda callers: callers.issue(ORDERS, days=(1, 2))),
    Row(78, "meant for servers", lambda callers: callers.issue(ORDERS, usage=FOR_SERVERS)),
    Row(78, "a name without a row", lambda callers: callers.issue("spiffe://shop/other"),
        StatusCode.PERMISSION_DENIED),
    Row(78, "no name but the common name", lambda callers: callers.issue(), StatusCode.PERMISSION_DENIED),
    Row(78, "an address", lambda callers: callers.issue("10.0.0.1"), StatusCode.PERMISSION_DENIED),
    Row(78, "a name of the wrong case", lambda callers: callers.issue(ORDERS.upper()), StatusCode.PERMISSION_DENIED),
    Row(78, "a row's name at the beginning", lambda callers: callers.issue(f"{ORDERS}/x"),
        StatusCode.PERMISSION_DENIED),
    Row(78, "a row's name before a NUL", lambda callers: callers.issue(f"{ORDERS}\0.other"),
        StatusCode.PERMISSION_DENIED),
    Row(78, "a host name before a NUL", lambda callers: callers.issue(f"{ADMIN}\0.other"),
        StatusCode.PERMISSION_DENIED),
    Row(78, "a URI without a row beside a DNS name with one", lambda callers: callers.issue(ADMIN, "spiffe://a/b"),
        StatusCode.PERMISSION_DENIED),
    Row(78, "a wildcard", lambda callers: callers.issue("*"), StatusCode.PERMISSION_DENIED),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.name}")
def test_a_caller_is_refused(secured: Secured, row: Row) -> None:
    with secured.wire(row.made(secured.files.callers)) as wire:
        got = wire.refused(row.method, GOOD)

    assert got.code is row.code
    if row.code is StatusCode.PERMISSION_DENIED:
        assert got.reason == "PERMISSION_DENIED"
    assert COMMON_NAME not in got.everything and "Traceback" not in got.everything


@pytest.mark.parametrize(
    "names",
    [(ORDERS,), ("spiffe://shop/other", ORDERS), ("other.shop", ORDERS), (ADMIN,), ("other.shop", ADMIN, "10.0.0.1")],
    ids=str,
)
def test_each_uri_counts_and_without_any_each_host_name(secured: Secured, names: tuple[str, ...]) -> None:
    with secured.wire(secured.caller(*names)) as wire:
        assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)


def test_a_server_of_another_name_or_authority_is_refused_by_its_caller(secured: Secured) -> None:
    caller = secured.caller(ORDERS)
    with secured.wire(caller, STRANGER.pem) as wire:
        assert wire.refused(PREDICT, GOOD).code is StatusCode.UNAVAILABLE
    with secured.wire(caller, server_name="other.shop") as wire:
        assert wire.refused(PREDICT, GOOD).code is StatusCode.UNAVAILABLE


@pytest.mark.parametrize("sent", PLAIN_TEXT.values(), ids=PLAIN_TEXT)
def test_number_22_plain_text_on_the_tls_port_ends_that_connection_alone(secured: Secured, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", secured.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert b"HTTP" not in b"".join(iter(lambda: connection.recv(4096), b""))
    with secured.wire(secured.caller(ORDERS)) as wire:
        assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)
