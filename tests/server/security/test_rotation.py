"""Certificates change while a server runs: new connections get the new one, open ones live on."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from tests.server.calls import PREDICT, pricing
from tests.server.conftest import Start
from tests.server.security.authority import FOR_SERVERS, Authority, Issued
from tests.server.security.secured import Files, Secured, replace
from tests.server.telemetry.scraping import scraped

from mercato_server.errors import ConfigError
from mercato_server.rpc import tls
from mercato_server.rpc.tls import Certificates, TlsFiles

GOOD = pricing([[4.0]]).SerializeToString()
CALLER = "orders.shop"


@pytest.fixture
def rotating(start: Start, store: Path, tmp_path: Path) -> Iterator[Secured]:
    """A server without an access table, whose files a test may change."""
    files = Files(tmp_path / "tls")
    running = start(store, *files.flags)
    secured = Secured(running, files)
    running.event("ready")
    yield secured
    running.terminate()
    assert running.ended() == 0
    assert "Traceback" not in running.log and str(tmp_path) not in running.log


def test_new_connections_get_the_new_certificate_and_open_ones_live_on(rotating: Secured) -> None:
    caller = rotating.caller(CALLER)
    with rotating.wire(caller) as old:
        assert old.price(4.0) == pytest.approx(8.0, abs=0.01)
        before = rotating.files.current
        assert rotating.serial() == before.serial
        rotating.files.put(rotating.files.authority.server())

        assert rotating.serial() == rotating.files.current.serial != before.serial
        assert old.price(4.0) == pytest.approx(8.0, abs=0.01)
        with rotating.wire(caller) as new:
            assert new.price(4.0) == pytest.approx(8.0, abs=0.01)
    assert rotating.running.log == ""


def test_the_expiry_of_the_certificate_in_use_can_be_scraped(rotating: Secured) -> None:
    assert scraped_expiry(rotating) == pytest.approx(time.time() + 86_400, abs=600)
    rotating.files.put(rotating.files.authority.issue("localhost", usage=FOR_SERVERS, days=(-1, 3)))
    rotating.serial()
    assert scraped_expiry(rotating) == pytest.approx(time.time() + 3 * 86_400, abs=600)


def scraped_expiry(server: Secured) -> float:
    page = scraped(server.listening["metrics_port"])
    found = re.search(r"^mercato_tls_certificate_expiry_timestamp_seconds (\S+)$", page, re.MULTILINE)
    assert found is not None, page
    return float(found[1])


def test_authorities_of_callers_change_too(rotating: Secured) -> None:
    other = Authority()
    newcomer, former = other.issue(CALLER), rotating.caller(CALLER)
    with rotating.wire(newcomer) as wire:
        assert wire.refused(PREDICT, GOOD).code is StatusCode.UNAVAILABLE
    with rotating.wire(former) as open_before:
        open_before.price(4.0)
        replace(rotating.files.client_ca, other.pem)
        with rotating.wire(newcomer) as wire:
            assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)
        with rotating.wire(former) as wire:
            assert wire.refused(PREDICT, GOOD).code is StatusCode.UNAVAILABLE
        assert open_before.price(4.0) == pytest.approx(8.0, abs=0.01)


def test_bad_files_change_nothing_and_are_told_once(rotating: Secured) -> None:
    files, before = rotating.files, rotating.files.current
    new = files.authority.server()
    replace(files.cert, new.certificate)
    for _ in range(5):
        assert rotating.serial() == before.serial
    with rotating.wire(rotating.caller(CALLER)) as wire:
        assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)
    assert rotating.running.log.count("are not used") == 1
    assert "server.key does not belong to the certificate in server.pem" in rotating.running.log

    replace(files.key, new.key)
    assert rotating.serial() == new.serial
    assert rotating.running.log.count("fit again") == 1


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "tls")


def certificates(files: Files) -> Certificates:
    return Certificates(TlsFiles(files.cert, files.key, files.client_ca))


def test_files_are_read_once_for_each_change(files: Files) -> None:
    kept = certificates(files)
    assert kept.changed() is None
    files.put(files.authority.server())
    assert kept.changed() is not None
    assert kept.changed() is None


@pytest.mark.parametrize("name", ["cert", "key", "client_ca"])
@pytest.mark.parametrize("damage", ["absent", "empty", "half", "noise", "folder", "huge"])
def test_a_damaged_file_is_not_used(
    files: Files, name: str, damage: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    kept = certificates(files)
    path = getattr(files, name)
    whole = path.read_bytes()
    spoil(path, damage)

    assert kept.changed() is None and kept.changed() is None
    with pytest.raises(ConfigError, match=rf"^tls_{name}: {path.name} ") as refused:
        certificates(files)
    assert str(tmp_path) not in caplog.text + str(refused.value)
    assert caplog.text.count("are not used") == 1

    path.rmdir() if damage == "folder" else path.unlink(missing_ok=True)
    replace(path, whole)
    assert kept.changed() is not None


def spoil(path: Path, damage: str) -> None:
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.touch()
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "noise":
            path.write_bytes(bytes(range(256)))
        case "folder":
            path.mkdir()
        case "huge":
            path.write_bytes(content + b"\n" * 2**20)


def test_a_chain_that_is_cut_short_is_not_used(files: Files) -> None:
    replace(files.cert, files.current.certificate + files.authority.pem[:300])
    with pytest.raises(ConfigError, match="tls_cert: server.pem holds no whole certificates"):
        certificates(files)


def test_a_key_with_a_password_is_refused_without_asking_for_it(files: Files) -> None:
    files.put(files.authority.issue("localhost", password=b"secret"))
    with pytest.raises(ConfigError, match="tls_key: server.key holds no key that can be read; expected PEM without a"):
        certificates(files)


@pytest.mark.parametrize("kind", ["ed25519", "p521", "rsa1024"])
def test_a_key_that_grpc_clients_do_not_take_is_refused(files: Files, kind: str) -> None:
    files.put(files.authority.issue("localhost", kind=kind))
    with pytest.raises(ConfigError, match=r"tls_(key|cert): server.\w+ (has|holds) a key that .* P-256 or P-384$"):
        certificates(files)


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_a_key_that_grpc_clients_take_is_used(files: Files, kind: str) -> None:
    files.put(files.authority.issue("localhost", kind=kind))
    assert certificates(files).asks_callers


def test_a_file_that_becomes_a_pipe_holds_up_no_handshake(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = certificates(files)
    found = files.key.stat()
    files.key.unlink()
    os.mkfifo(files.key)
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: found if path == files.key else real(path, **how))
    files.cert.touch()

    assert in_time(kept.changed) is None


def test_the_pair_is_checked_as_it_was_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, check = certificates(files), tls._check_pair

    def late(*read: Any) -> None:
        files.key.unlink()
        os.mkfifo(files.key)
        check(*read)

    monkeypatch.setattr(tls, "_check_pair", late)
    files.put(files.authority.server())
    assert in_time(kept.changed) is None


def in_time(asked: Callable[[], object]) -> object:
    """What is answered, by a thread that the test can leave behind."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(asked()), daemon=True)
    thread.start()
    thread.join(10)
    assert answers, "it blocks"
    return answers[0]


OUT_OF_TIME = [((-2, -1), "has expired on "), ((1, 2), "is not valid before ")]


@pytest.mark.parametrize(("days", "fault"), OUT_OF_TIME, ids=["expired", "early"])
def test_a_certificate_out_of_its_time_is_not_reloaded(
    files: Files, days: tuple[float, float], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = certificates(files)
    files.put(files.authority.issue("localhost", usage=FOR_SERVERS, days=days))
    assert kept.changed() is None and kept.changed() is None
    assert caplog.text.count(f"are not used: tls_cert: server.pem {fault}") == 1
    assert kept.expiry == pytest.approx(time.time() + 86_400, abs=60)

    files.put(files.authority.server())
    assert kept.changed() is not None


@pytest.mark.parametrize(("days", "fault"), OUT_OF_TIME, ids=["expired", "early"])
def test_a_certificate_out_of_its_time_is_told_at_the_start(
    files: Files, days: tuple[float, float], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    files.put(files.authority.issue("localhost", usage=FOR_SERVERS, days=days))
    assert certificates(files).asks_callers
    assert caplog.text.count(f"tls_cert: server.pem {fault}") == 1


def test_a_certificate_that_came_early_is_used_from_its_time_on(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = certificates(files)
    files.put(files.authority.issue("localhost", usage=FOR_SERVERS, days=(1, 3)))
    assert kept.changed() is None
    later = time.time() + 2 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)

    assert kept.changed() is not None
    assert kept.changed() is None
    assert kept.expiry == pytest.approx(later + 86_400, abs=60)


@pytest.mark.parametrize("kind", ["p384", "ed25519"])
@pytest.mark.parametrize("comment", ["# -----BEGIN CERTIFICATE-----", "证书-----BEGIN CERTIFICATE-----", "-----BEGIN"])
def test_a_comment_above_the_chain_is_no_certificate(files: Files, kind: str, comment: str) -> None:
    issued = files.authority.issue("localhost", kind=kind)
    files.put(Issued(comment.encode() + b" of the shop\n" + issued.certificate, issued.key))
    if kind == "p384":
        assert certificates(files).asks_callers
    else:
        with pytest.raises(ConfigError, match="server.pem has a key that gRPC clients do not take"):
            certificates(files)


def test_a_first_certificate_that_cannot_be_read_is_a_fault_of_its_setting(files: Files) -> None:
    whole = files.current.certificate
    body = b"Proc-Type: 4,CLEAR\n\n" + whole.partition(b"-----\n")[2]
    replace(files.cert, b"-----BEGIN CERTIFICATE-----\n" + body)
    with pytest.raises(ConfigError, match="^tls_cert: server.pem "):
        certificates(files)
