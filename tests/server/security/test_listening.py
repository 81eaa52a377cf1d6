"""What opens where: nothing in the clear beyond loopback unasked, probes beside TLS, and what the server says of it."""

import re
import signal
import subprocess
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.server.calls import PREDICT, Wire
from tests.server.conftest import Start
from tests.server.running import MERCATO, environment
from tests.server.security.authority import Authority
from tests.server.security.conftest import ADMIN
from tests.server.security.secured import Files, Secured, replace

ANYWHERE = "0.0.0.0:0"


def refusal(folder: Path, *flags: str, table: str = "") -> str:
    """What `mercato serve` says when it does not start."""
    (folder / "given.toml").write_text(table)
    env = environment(folder / "home", (), MERCATO_CONFIG=str(folder / "given.toml"))
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "off", "--probe-listen", "127.0.0.1:0")
    done = subprocess.run(
        [MERCATO, "serve", "--store", folder / "store", *ports, *flags],
        env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr and str(folder) not in done.stderr
    return done.stderr


def test_plain_text_beyond_loopback_is_refused(tmp_path: Path) -> None:
    for listen in (ANYWHERE, "[::]:0"):
        said = refusal(tmp_path, "--listen", listen)
        assert f"listen {listen} opens a port to the network in plain text" in said and "--insecure" in said


def test_plain_text_beyond_loopback_is_served_when_asked_for(start: Start, store: Path) -> None:
    running = start(store, "--insecure", listen=ANYWHERE)
    running.ready()
    with grpc.insecure_channel(running.address) as channel:
        assert Wire(channel).price(4.0) == pytest.approx(8.0, abs=0.01)


def test_tls_beyond_loopback_needs_no_permission(start: Start, store: Path, tmp_path: Path) -> None:
    files = Files(tmp_path / "tls", asks_callers=False)
    secured = Secured(start(store, *files.flags, listen=ANYWHERE), files)
    secured.running.event("ready")

    assert secured.listening["tls"] == "tls"
    with secured.wire() as wire:
        assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)
    with secured.wire(Authority().issue("any.shop")) as wire:
        assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)


def test_a_plain_server_opens_no_probe_port(start: Start, store: Path) -> None:
    running = start(store)
    event = running.event("listening")

    assert (event["tls"], event["probe_port"]) == ("off", None)


def test_the_probe_port_has_health_alone(secured: Secured) -> None:
    assert secured.listening["tls"] == "mtls"
    with grpc.insecure_channel(f"127.0.0.1:{secured.listening['probe_port']}") as channel:
        wire = Wire(channel)
        assert wire.serving() and wire.serving("pricing.linear")
        for method in (
            PREDICT,
            "/mercato.v1.CatalogService/ListModels",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ):
            assert wire.refused(method, b"").code is StatusCode.UNIMPLEMENTED
        malformed = wire.refused("/grpc.health.v1.Health/Check", b"\xff")
        assert malformed.code is StatusCode.INVALID_ARGUMENT
        assert wire.refused("/grpc.health.v1.Health/Check", bytes(5000)).code is StatusCode.RESOURCE_EXHAUSTED


def test_probes_hear_that_the_server_stops(start: Start, store: Path, tmp_path: Path) -> None:
    files = Files(tmp_path / "tls")
    running = start(store, *files.flags)
    secured = Secured(running, files)
    running.event("ready")
    with grpc.insecure_channel(f"127.0.0.1:{secured.listening['probe_port']}") as channel:
        watch = Wire(channel).health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running.terminate()
        assert [answer.status for answer in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert running.ended() == 0


def test_the_probe_port_can_be_off_and_is_loopback_only(start: Start, store: Path, tmp_path: Path) -> None:
    files = Files(tmp_path / "tls")
    running = start(store, *files.flags, "--probe-listen", "off")
    assert Secured(running, files).listening["probe_port"] is None
    assert "probe_listen: got '0.0.0.0:8502', expected host:port on a loopback" in refusal(
        tmp_path, *files.flags, "--probe-listen", "0.0.0.0:8502"
    )


def test_a_taken_probe_port_is_named(secured: Secured, tmp_path: Path) -> None:
    files = Files(tmp_path / "tls")
    taken = f"127.0.0.1:{secured.listening['probe_port']}"
    assert f"probe_listen: cannot listen on {taken}: the port is taken" in refusal(
        tmp_path, *files.flags, "--probe-listen", taken
    )


def test_bad_tls_settings_are_refused_by_name(tmp_path: Path) -> None:
    files = Files(tmp_path / "tls")
    without_key = files.flags[:2]
    assert "tls_cert is set without tls_key" in refusal(tmp_path, *without_key)
    replace(files.key, Authority().server().key)
    said = refusal(tmp_path, *files.flags)
    assert said == "mercato serve: tls_key: server.key does not belong to the certificate in server.pem\n"
    files.key.unlink()
    assert "tls_key: server.key cannot be read: No such file or directory" in refusal(tmp_path, *files.flags)


def test_bad_rows_are_refused_by_name(tmp_path: Path) -> None:
    files = Files(tmp_path / "tls")
    row = '[[access]]\nprincipal = "orders.shop"\nmodels = "*"\nmethods = '
    said = refusal(tmp_path, *files.flags, table=row + '"mercato.v1.PredictionService/Predikt"')
    assert "access: the row of 'orders.shop' names method 'mercato.v1.PredictionService/Predikt', expected one" in said
    assert "access is set without tls_client_ca" in refusal(tmp_path, table=row + '"*"')


def test_a_row_of_a_model_that_is_not_installed_is_warned_of(start: Start, store: Path, tmp_path: Path) -> None:
    row = f'[[access]]\nprincipal = "{ADMIN}"\nmodels = ["pricing.liner"]\nmethods = "*"\n'
    (tmp_path / "given.toml").write_text(row)
    running = start(store, *Files(tmp_path / "tls").flags, MERCATO_CONFIG=str(tmp_path / "given.toml"))
    running.ready()
    assert "[[access]] the row of 'admin.shop' names model 'pricing.liner', which is not installed" in running.log


def test_people_are_told_how_the_ports_speak(store: Path, tmp_path: Path) -> None:
    flags = Files(tmp_path / "tls").flags
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "off", "--probe-listen", "127.0.0.1:0")
    with subprocess.Popen(
        [MERCATO, "serve", "--store", store, *ports, *flags],
        env=environment(tmp_path / "home", ()), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+, TLS, callers show certificates\n", first)
    assert re.fullmatch(r"health for probes on 127\.0\.0\.1:\d+, plain text\n", second)
