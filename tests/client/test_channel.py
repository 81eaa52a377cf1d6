"""How the client connects: its retries, several servers in turn, limits, and silent connections."""

import json
import socket
import threading
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.client.conftest import Serve
from tests.client.fake import Failure, FakeServer, numbers

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato_client import Client, InvalidInput, MercatoError, NotReady, Overloaded, Unavailable, channel
from mercato_client.channel import OPTIONS, SERVICE_CONFIG

X = "pricing.linear"
CONFIG = json.loads(SERVICE_CONFIG)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def full(pushback: str) -> Failure:
    return Failure(
        StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED", trailing=(("grpc-retry-pushback-ms", pushback),)
    )


def ask(client: Client) -> MercatoError | None:
    try:
        client.predict(X, {"x": 1.0})
    except MercatoError as error:
        return error
    return None


def test_every_unary_method_is_retried_and_no_stream_is() -> None:
    described = [
        (service.full_name, method.name)
        for module in (prediction_pb2, catalog_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    ]
    named = [(name["service"], name["method"]) for entry in CONFIG["methodConfig"] for name in entry["name"]]
    assert sorted(named) == sorted(described) and ("mercato.v1.PredictionService", "Predict") in named


def test_the_policy_is_what_grpc_takes(client: Client) -> None:
    (entry,) = CONFIG["methodConfig"]
    assert entry["retryPolicy"]["maxAttempts"] == 3
    assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    assert CONFIG["retryThrottling"] == {"maxTokens": 10, "tokenRatio": 0.1}
    assert CONFIG["loadBalancingConfig"] == [{"round_robin": {}}]
    # gRPC answers INVALID_ARGUMENT to every call on a channel whose service config it refuses.
    assert client.models()


def test_a_config_that_grpc_refuses_would_be_noticed(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SERVICE_CONFIG.replace('"maxAttempts": 3', '"maxAttempts": 0')
    options = tuple((name, broken if name == "grpc.service_config" else value) for name, value in OPTIONS)
    monkeypatch.setattr(channel, "OPTIONS", options)
    with Client(server.address) as client:
        assert isinstance(ask(client), InvalidInput)


def test_pushback_names_the_time_of_the_next_attempt(client: Client, server: FakeServer) -> None:
    ask(client)
    server.failures = [full("300")]
    server.remaining.clear()
    assert ask(client) is None
    first, second = server.remaining
    assert 0.29 < first - second < 2.0


def test_a_negative_pushback_stops_after_one_attempt(client: Client, server: FakeServer) -> None:
    server.failures = [full("-1")] * 3
    assert isinstance(ask(client), Overloaded) and len(server.requests) == 1


def test_the_catalogue_is_asked_again_too(client: Client, server: FakeServer) -> None:
    server.catalog_failures = [Failure(StatusCode.UNAVAILABLE, "stopping", "DRAINING")]
    assert [model.name for model in client.models()] == [X]
    server.catalog_failures = [Failure(StatusCode.UNAVAILABLE, "stopping", "DRAINING")]
    assert client.model(X).name == X


def test_the_retry_budget_runs_out_and_fills_up_again(client: Client, server: FakeServer) -> None:
    """Half of 10 tokens: once 5 attempts more have failed than succeeded, nothing is sent twice."""
    server.failures = [full("1")] * 100
    attempts = []
    for _ in range(6):
        before = len(server.requests)
        ask(client)
        attempts.append(len(server.requests) - before)
    assert attempts[0] == 3 and attempts[-3:] == [1, 1, 1]
    server.failures = []
    for _ in range(100):
        assert ask(client) is None
    server.failures = [full("1")]
    assert ask(client) is None


def test_the_limit_of_messages_can_be_set(server: FakeServer) -> None:
    server.offer("shop.rank", numbers("x", "UINT8"))
    with Client(server.address, max_message_bytes=1000) as client:
        assert client.predict("shop.rank", {"x": np.zeros(500, np.uint8)})["x"].size == 500
        with pytest.raises(InvalidInput, match=r"message too large: .*; send fewer rows per call"):
            client.predict("shop.rank", {"x": np.zeros(1000, np.uint8)})
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [0, -1, 2**31])
def test_a_wrong_limit_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match=f"max_message_bytes: got {size}, expected 1 to 2147483647"):
        Client(max_message_bytes=size)


def test_servers_are_called_in_turn_and_a_dead_one_is_left_out(serve: Serve) -> None:
    servers = [serve(), serve()]
    with Client([server.address for server in servers], timeout=20.0) as client:
        until(client, lambda: all(server.requests for server in servers))
        counts = [len(server.requests) for server in servers]
        for _ in range(20):
            assert ask(client) is None
        assert [len(server.requests) - count for server, count in zip(servers, counts, strict=True)] == [10, 10]
        servers[0].stop()
        for _ in range(20):
            assert ask(client) is None
        back = serve(None, int(servers[0].address.rpartition(":")[2]))
        until(client, lambda: bool(back.requests))


def test_a_server_that_is_starting_or_stopping_gets_no_calls(serve: Serve) -> None:
    ready, other = serve(), serve()
    other.health.set("", NOT_SERVING)
    with Client([ready.address, other.address], timeout=20.0) as client:
        for _ in range(20):
            assert ask(client) is None
        assert not other.requests
        other.health.set("", SERVING)
        until(client, lambda: bool(other.requests))
        ready.health.set("", NOT_SERVING)
        other.health.set("", NOT_SERVING)
        while (error := ask(client)) is None:
            pass
    assert isinstance(error, Unavailable) and error.message == (
        f"no server at {ready.address}, {other.address} is ready: they are starting or stopping"
    )


@pytest.mark.parametrize("listed", [True, False])
def test_a_lone_server_that_is_not_ready_still_tells_why(server: FakeServer, listed: bool) -> None:
    server.health.set("", NOT_SERVING)
    server.failures = [Failure(StatusCode.UNAVAILABLE, "model is LOADING", "MODEL_NOT_READY")] * 3
    with Client([server.address] if listed else server.address) as client:
        assert [model.name for model in client.models()] == [X] and isinstance(ask(client), NotReady)


def until(client: Client, reached: Any) -> None:
    """Call without an error until something holds; a connection is made within the client's 2 seconds."""
    for _ in range(100_000):
        assert ask(client) is None
        if reached():
            return
    raise AssertionError("the calls have not reached every server")


@pytest.mark.parametrize("form", ["dns:///{}", "ipv4:{}", "{}"])
def test_any_target_of_grpc_is_an_address(server: FakeServer, form: str) -> None:
    with Client(form.format(server.address)) as client:
        assert ask(client) is None and client.address == form.format(server.address)


def test_names_in_a_list_are_resolved(server: FakeServer) -> None:
    port = server.address.rpartition(":")[2]
    with Client([f"localhost:{port}", server.address]) as client:
        assert ask(client) is None and client.address == f"localhost:{port}, {server.address}"
    with pytest.raises(Unavailable, match=r"the host of address 'nowhere\.invalid:1' cannot be resolved"):
        Client(["nowhere.invalid:1", "127.0.0.1:1"])


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ([], "address: got no address, expected at least one"),
        (["127.0.0.1:1", 3], "address: got int, expected str"),
        (
            ["127.0.0.1:1", "dns:///a:1"],
            "address: got 'dns:///a:1', expected \"host:port\" for each of several servers",
        ),
        (["127.0.0.1:1", "a"], "address: got 'a', expected \"host:port\" for each of several servers"),
        (["127.0.0.1:1", "a:99999"], "address: got 'a:99999', expected \"host:port\" for each of several servers"),
        (["127.0.0.1:1", "[::1]:1"], "address: got hosts of IPv4 and hosts of IPv6, expected several of one kind"),
    ],
)
def test_a_wrong_list_is_refused(addresses: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Client(addresses)
    assert caught.value.message == message


def test_a_connection_that_has_gone_silent_is_given_up(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between client and server stands a relay that stops passing bytes on; no timeout of a call is needed."""
    names = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    fast = dict.fromkeys(names, 100)
    assert fast.keys() <= dict(OPTIONS).keys()
    monkeypatch.setattr(channel, "OPTIONS", tuple({**dict(OPTIONS), **fast}.items()))
    server.held = {1.0}
    with Relay(server.address) as relay, Client(relay.address, timeout=60.0) as client, client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        server.stream().got.get(timeout=10)
        relay.silence()
        assert isinstance(pending.exception(20), Unavailable)


class Relay:
    """Passes bytes between one client and a server until it is silenced."""

    def __init__(self, address: str) -> None:
        self._target = (address.split(":")[0], int(address.split(":")[1]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._silent = threading.Event()
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def silence(self) -> None:
        self._silent.set()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._target)
        self._sockets += [client, server]
        threading.Thread(target=self._pass, args=(server, client), daemon=True).start()
        self._pass(client, server)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self._silent.is_set():
                    target.sendall(data)
        except OSError:
            return
