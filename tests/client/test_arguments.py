"""What a caller passes is checked at the door: every mistake is an InvalidInput that names the argument."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tests.client.fake import Failure, FakeServer, numbers, text

from mercato.v1 import catalog_pb2
from mercato_client import Client, InvalidInput, NotFound

SECONDS = "expected a number of seconds, at most 1e+08"


def refused(client: Client, inputs: object = None, /, **arguments: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        client.predict(**{"model": "pricing.linear", "inputs": {"x": 1.0} if inputs is None else inputs, **arguments})
    return caught.value.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": float("inf")}, f"timeout: got inf, {SECONDS}"),
        ({"timeout": float("nan")}, f"timeout: got nan, {SECONDS}"),
        ({"timeout": 1e300}, f"timeout: got 1e+300, {SECONDS}"),
        ({"timeout": 10**400}, f"timeout: got more than a float holds, {SECONDS}"),
        ({"timeout": "3"}, "timeout: got str, expected a number of seconds"),
        ({"timeout": True}, "timeout: got bool, expected a number of seconds"),
        ({"priority": -1}, "priority: got -1, expected 0 to 9"),
        ({"priority": 10}, "priority: got 10, expected 0 to 9"),
        ({"priority": "a"}, "priority: got str, expected int"),
        ({"version": "1"}, "version: got str, expected int"),
        ({"version": True}, "version: got bool, expected int"),
        ({"label": 1}, "label: got int, expected str"),
        ({"model": None}, "model: got NoneType, expected str"),
        ({"model": "\ud800"}, "model: got a lone surrogate, expected Unicode text"),
        ({"outputs": 3}, "outputs: got int, expected a list of output names"),
        ({"outputs": [1]}, "outputs: got int, expected str"),
        ({"receipt": "yes"}, "receipt: got str, expected bool"),
        ({"parameters": [1]}, "parameters: got list, expected a mapping of parameter name to value"),
        ({"parameters": {1: 2}}, "parameters: got int, expected str"),
        ({"parameters": {"k": "\ud800"}}, "parameters.k: got a lone surrogate, expected Unicode text"),
    ],
)
def test_a_wrong_argument_is_named(client: Client, server: FakeServer, arguments: dict[str, Any], message: str) -> None:
    assert refused(client, **arguments) == message
    assert server.requests == []


def test_a_whole_number_beyond_a_float_parameter_is_refused(client: Client, server: FakeServer) -> None:
    alpha = catalog_pb2.Parameter(name="alpha", type=catalog_pb2.PARAMETER_TYPE_FLOAT)
    server.offer("shop.rank", numbers("x", "FP32"), parameters=[alpha])
    message = refused(client, model="shop.rank", parameters={"alpha": 10**400})
    assert message == "parameters.alpha: a value is beyond the range of float"


def test_texts_nested_without_end_are_refused(client: Client, server: FakeServer) -> None:
    server.offer("semantic.encoder", text("query"))
    endless: list[Any] = []
    endless.append(endless)
    message = refused(client, {"query": endless}, model="semantic.encoder")
    assert message == "inputs.query: lists are nested more than 64 deep"


def test_numbers_of_numpy_are_numbers(client: Client, server: FakeServer) -> None:
    numpy: Any = {"version": np.int64(1), "priority": np.int32(2), "timeout": np.float32(3.0)}
    client.predict("pricing.linear", {"x": 1.0}, outputs=("x",), **numpy)
    sent = server.requests[0]
    assert (sent.model.version, sent.priority, list(sent.outputs)) == (1, 2, ["x"])


@pytest.mark.parametrize(
    "address",
    [
        *("", " ", "dns:///", "http://localhost:8500/", 8500, None, "\ud800"),
        *("localhost", "localhost:", ":8500", "127.0.0.1:99999", "::1:8500", "https://localhost:1", "a b:1", "a:1\n"),
        *("dns:///a\0:1", "[::1]", "a:b:1", ["::1:8500", "127.0.0.1:1"], ["a\n:1", "b:1"]),
    ],
)
def test_a_wrong_address_is_refused_before_grpc_sees_it(address: Any) -> None:
    with pytest.raises(InvalidInput, match="address: got .*, expected ") as caught:
        Client(address)
    assert caught.value.field == "address"


@pytest.mark.parametrize(
    "address", ["[::1]:8500", "[fe80::1%eth0]:1", "商店.example:1", "unix:/tmp/socket", "dns:///a:1"]
)
def test_the_forms_of_an_address(address: str) -> None:
    with Client(address) as client:
        assert client.address == address


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), "3", None])
def test_a_wrong_timeout_of_the_client_is_refused_at_once(timeout: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout: got .*, expected a number of seconds"):
        Client(timeout=timeout)


def test_the_other_calls_check_their_arguments_too(client: Client) -> None:
    name: Any = 3
    for call in (client.model, client.signature, client.health):
        with pytest.raises(InvalidInput, match="model: got int, expected str"):
            call(name)
    with pytest.raises(InvalidInput, match="timeout: got inf, expected"):
        client.wait_until_ready(float("inf"))
    with pytest.raises(InvalidInput, match="model: got int, expected str"):
        client.wait_until_ready(1.0, model=name)


def test_a_closed_client_says_so(server: FakeServer) -> None:
    client = Client(server.address)
    client.predict("pricing.linear", {"x": 1.0})
    client.close()
    calls: list[Callable[[], object]] = [client.models, client.health, client.wait_until_ready, client.stream]
    for call in calls:
        with pytest.raises(InvalidInput, match="the client is closed; open another one"):
            call()
    assert refused(client) == "the client is closed; open another one"


def test_closing_ends_the_calls_in_flight(client: Client, server: FakeServer) -> None:
    class Closing(Failure):
        def raise_in(self, context: grpc.ServicerContext) -> None:
            client.close()
            super().raise_in(context)

    server.failures = [Closing(StatusCode.UNAVAILABLE)]
    assert refused(client) == "the client is closed; open another one"


def test_only_what_an_old_signature_can_explain_asks_again(client: Client, server: FakeServer) -> None:
    client.predict("pricing.linear", {"x": 1.0})
    refused(client, [4.0])
    refused(client, parameters={"k": [1]})
    server.failures = [Failure(StatusCode.INVALID_ARGUMENT, "x is not finite", "INVALID_REQUEST")]
    refused(client)
    assert server.described == 1
    refused(client, {"z": 1.0})
    assert server.described == 2


def test_a_version_that_is_not_there_stays_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="has no version 0; it has 1"):
        client.predict("pricing.linear", {"x": 1.0}, version=0)
