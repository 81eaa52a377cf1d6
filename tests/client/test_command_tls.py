"""The options of `mercato` that say how to connect."""

from pathlib import Path
from typing import Any

import pytest
from tests.client.certificates import Authority
from tests.client.conftest import Serve
from tests.client.test_command import mercato


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority whose files lie in the working directory: ca.pem, cert.pem and key.pem."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    authority.caller.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return authority


PREDICT = ("predict", "pricing.linear", "--input", '{"x": [[4.0]]}', "--server")
TLS_FILES = ("--tls-ca", "ca.pem", "--tls-cert", "cert.pem", "--tls-key", "key.pem")


def test_the_command_connects_with_tls(serve: Serve, files: Authority) -> None:
    address = serve(files.credentials(ask_callers=True)).address
    assert "[[4.]]" in mercato(*PREDICT, address, *TLS_FILES).stdout
    assert "pricing.linear" in mercato("models", "--server", address, *TLS_FILES).stdout


def test_the_call_to_paste_connects_with_tls_too(serve: Serve, files: Authority) -> None:
    address = serve(files.credentials()).address
    done = mercato("models", "pricing.linear", "--server", address, "--tls-ca", "ca.pem")
    source = done.stdout.partition("Call it from Python:\n\n")[2]
    assert f"with Client(\"{address}\", tls=TLS(ca='ca.pem')) as client:" in source
    scope: dict[str, Any] = {}
    exec(source, scope)  # noqa: S102  (what users paste must run)
    assert scope["answer"].model.name == "pricing.linear"


def test_the_name_in_the_certificate_may_be_given(serve: Serve, files: Authority) -> None:
    address = serve(files.credentials()).address
    options = ("--server", address, "--tls-ca", "ca.pem", "--tls-server-name")
    done = mercato("models", "pricing.linear", *options, "localhost")
    assert f"Client(\"{address}\", tls=TLS(ca='ca.pem', server_name='localhost'))" in done.stdout
    wrong = mercato("models", *options, "other.example")
    assert wrong.exit_code == 4 and "has another name; give it as tls.server_name" in wrong.stderr


def test_plain_text_to_a_server_with_tls_says_what_to_do(serve: Serve, files: Authority) -> None:
    done = mercato(*PREDICT, serve(files.credentials()).address)
    assert done.exit_code == 4 and "it may want TLS (tls=TLS(...), or --tls-ca)" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tls-ca", "absent.pem"), "--tls-ca: the file cannot be read: No such file or directory"),
        (("--tls-ca", "key.pem"), "--tls-ca: expected PEM with a certificate"),
        (("--tls-cert", "cert.pem"), "--tls-key: missing; --tls-cert is of use only together with it"),
    ],
)
def test_a_wrong_file_is_named_by_its_option(files: Authority, options: tuple[str, str], message: str) -> None:
    done = mercato(*PREDICT, "127.0.0.1:1", *options)
    assert done.exit_code == 2 and done.stderr == f"mercato: {message}\n"
