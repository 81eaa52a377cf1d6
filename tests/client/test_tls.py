"""TLS against real servers, and what is said where it cannot work."""

from pathlib import Path
from typing import Any

import pytest
from tests.client.certificates import Authority
from tests.client.conftest import Serve

from mercato_client import TLS, AsyncClient, Client, InvalidInput, Unavailable

X = "pricing.linear"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority()


NOT_ACCEPTED = (
    "the certificate of the server at {} is not accepted: "
    "not signed by tls.ca, expired, not valid yet or not meant for servers"
)


def refused(address: str, tls: TLS | None) -> str:
    with Client(address, tls=tls, timeout=5.0) as client, pytest.raises(Unavailable) as caught:
        client.predict(X, {"x": 1.0})
    return caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_of_the_authority_is_called(serve: Serve, authority: Authority, host: str) -> None:
    address = serve(authority.credentials()).address.replace("127.0.0.1", host)
    with Client(address, tls=TLS(ca=authority.pem)) as client, client.stream() as stream:
        assert stream.predict(X, {"x": 1.0}).result(10)["x"].tolist() == [1.0]
        assert client.health().name == "SERVING"


async def test_both_sides_have_certificates_in_files(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.caller.write(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes("# 根证书\n".encode() + authority.pem)
    address = serve(authority.credentials(ask_callers=True)).address
    with Client(address, tls=TLS(ca=str(ca), cert=cert, key=key)) as client:
        assert client.predict(X, {"x": 1.0})["x"].tolist() == [1.0]
    async with AsyncClient(address, tls=authority.tls()) as client_of_loop:
        assert (await client_of_loop.predict(X, {"x": 1.0}))["x"].tolist() == [1.0]


def test_plain_text_where_tls_is_wanted(serve: Serve, authority: Authority) -> None:
    address = serve(authority.credentials()).address
    assert refused(address, None) == (
        f"the server at {address} closes every connection: it may want TLS (tls=TLS(...), or --tls-ca), "
        "or a client certificate that it trusts (tls.cert and tls.key)"
    )


def test_tls_where_plain_text_is_spoken(serve: Serve, authority: Authority) -> None:
    address = serve().address
    message = refused(address, TLS(ca=authority.pem))
    assert message == f"the server at {address} speaks plain text; connect without tls"


def test_a_server_that_nobody_vouches_for(serve: Serve, authority: Authority, stranger: Authority) -> None:
    address = serve(authority.credentials()).address
    for tls in (TLS(ca=stranger.pem), TLS()):
        assert refused(address, tls) == NOT_ACCEPTED.format(address)


@pytest.mark.parametrize("days", [(-2, -1), (1, 2)], ids=["expired", "not valid yet"])
def test_a_certificate_of_another_time(serve: Serve, authority: Authority, days: tuple[int, int]) -> None:
    address = serve(authority.dated(*days)).address
    assert refused(address, TLS(ca=authority.pem)) == NOT_ACCEPTED.format(address)


def test_a_certificate_that_is_not_meant_for_servers(serve: Serve, authority: Authority) -> None:
    address = serve(authority.for_callers_only()).address
    assert refused(address, TLS(ca=authority.pem)) == NOT_ACCEPTED.format(address)


def test_the_systems_roots_count_where_no_others_are_given(
    serve: Serve, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "roots.pem").write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    with Client(serve(authority.credentials()).address, tls=TLS()) as client:
        assert client.predict(X, {"x": 1.0}).model.name == X


def test_a_caller_that_nobody_vouches_for(serve: Serve, authority: Authority, stranger: Authority) -> None:
    address = serve(authority.credentials(ask_callers=True)).address
    unknown = stranger.caller
    for tls in (TLS(ca=authority.pem), TLS(ca=authority.pem, cert=unknown.certificate, key=unknown.key)):
        assert "or a client certificate that it trusts" in refused(address, tls)


def test_the_servers_name_may_be_given(serve: Serve, authority: Authority) -> None:
    address = serve(authority.credentials()).address
    with Client(address, tls=TLS(ca=authority.pem, server_name="localhost")) as client:
        assert client.predict(X, {"x": 1.0}).model.name == X
    message = refused(address, TLS(ca=authority.pem, server_name="other.example"))
    assert message == f"the certificate of the server at {address} has another name; give it as tls.server_name"


def test_a_key_of_another_certificate(serve: Serve, authority: Authority, stranger: Authority) -> None:
    address = serve(authority.credentials(ask_callers=True)).address
    tls = TLS(ca=authority.pem, cert=authority.caller.certificate, key=stranger.caller.key)
    assert "tls.key does not belong to tls.cert" in refused(address, tls)


def test_several_servers_share_a_name(serve: Serve, authority: Authority) -> None:
    addresses = [serve(authority.credentials()).address for _ in range(2)]
    with Client(addresses, tls=TLS(ca=authority.pem)) as client:
        assert client.predict(X, {"x": 1.0}).model.name == X
    with pytest.raises(InvalidInput, match=r"tls\.server_name: missing; several hosts are checked for one name"):
        Client(["127.0.0.1:8500", "localhost:8500"], tls=TLS(ca=authority.pem))


SECRET = b"-----BEGIN SECRET-----"


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_cannot_be_used_is_named_and_not_shown(authority: Authority, tmp_path: Path, name: str) -> None:
    good = {"cert": authority.caller.certificate, "key": authority.caller.key}
    path = tmp_path / "file.pem"
    path.write_bytes(SECRET)
    cases: list[tuple[Any, str]] = [
        (tmp_path / "absent.pem", "the file cannot be read: No such file or directory"),
        (tmp_path, "the file cannot be read: Is a directory"),
        ("\0", "the file cannot be read: it is no path"),
        (path, "expected PEM with a "),
        (b"", "expected PEM with a "),
        (3, "got int, expected a path, or bytes of PEM"),
    ]
    for value, text in cases:
        with pytest.raises(InvalidInput, match=rf"^tls\.{name}: {text}") as caught:
            TLS(**{**good, name: value})
        assert "SECRET" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_damaged_certificates_and_locked_keys_are_refused(authority: Authority) -> None:
    damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(InvalidInput, match=r"tls\.ca: expected PEM with a certificate"):
        TLS(ca=damaged)
    for locked in (
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED",
    ):
        with pytest.raises(InvalidInput, match=r"tls\.key: expected PEM with a private key without a passphrase"):
            TLS(cert=authority.caller.certificate, key=locked)


def test_certificate_and_key_belong_together(authority: Authority) -> None:
    with pytest.raises(InvalidInput, match=r"tls\.key: missing; tls\.cert is of use only together with it"):
        TLS(cert=authority.caller.certificate)
    with pytest.raises(InvalidInput, match=r"tls\.cert: missing; tls\.key is of use only together with it"):
        TLS(key=authority.caller.key)
    assert "PRIVATE" not in repr(authority.tls())


def test_what_is_no_tls_is_refused() -> None:
    anything: Any = True
    with pytest.raises(InvalidInput, match=r"tls: got bool, expected mercato_client\.TLS"):
        Client(tls=anything)
