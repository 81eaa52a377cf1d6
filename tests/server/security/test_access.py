"""The access table: every method is covered, and a model that a caller may not use looks like none."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.server.calls import PREDICT, PRICING, SEMANTIC, Failed, Stream, Wire, failed, pricing, request, tensor
from tests.server.rpc.desk import Desk
from tests.server.security.conftest import ADMIN, BLIND, ORDERS
from tests.server.security.secured import Secured

import mercato.v1
from mercato.v1 import catalog_pb2
from mercato_server.contract.call import Call
from mercato_server.errors import ConfigError, NotAllowed
from mercato_server.rpc.access import Access, Rule
from mercato_server.rpc.admin_listener import AdminServer
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import DataServer, Limits
from mercato_server.serving.catalog import Catalog

GET_MODEL = "/mercato.v1.CatalogService/GetModel"
OPEN = {f"grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")}


def services() -> Iterator[ServiceDescriptor]:
    """Every service of our own protos, and those of gRPC that we serve."""
    for module in pkgutil.iter_modules(mercato.v1.__path__):
        if module.name.endswith("_pb2"):
            protos = importlib.import_module(f"mercato.v1.{module.name}")
            yield from protos.DESCRIPTOR.services_by_name.values()
    yield from health_pb2.DESCRIPTOR.services_by_name.values()
    yield from reflection_pb2.DESCRIPTOR.services_by_name.values()


EVERYWHERE: dict[str, MethodDescriptor] = {
    f"{service.full_name}/{method.name}": method for service in services() for method in service.methods
}
ADMINISTRATION = {name for name in EVERYWHERE if name.startswith("mercato.v1.AdminService/")}
# Those of the data port.
METHODS = {name: method for name, method in EVERYWHERE.items() if name not in ADMINISTRATION}


def called(wire: Wire, name: str, data: bytes = b"") -> grpc.StatusCode | Failed:
    """Call any method with one message; what came of it."""
    method = EVERYWHERE[name]
    kind = {
        (False, False): wire.channel.unary_unary,
        (False, True): wire.channel.unary_stream,
        (True, True): wire.channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    try:
        answer: Any = kind(f"/{name}")(iter([data]) if method.client_streaming else data, timeout=20)
        if method.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return failed(error)
    return StatusCode.OK


async def test_what_is_served_is_what_the_descriptors_say() -> None:
    catalog, observation = Catalog(), Observation()
    data = DataServer(catalog, Limits(), Access(), observation)
    admin = AdminServer(catalog, Desk(), Limits(), observation, data.health)

    assert data.methods == set(METHODS)
    assert admin.methods - data.methods == ADMINISTRATION
    assert {name.partition("/")[0] for name in data.methods - admin.methods} == {"mercato.v1.PredictionService"}


@pytest.mark.parametrize("name", sorted(METHODS.keys() - OPEN))
def test_a_method_without_a_row_is_denied(secured: Secured, name: str) -> None:
    with secured.wire(secured.caller("spiffe://shop/without-a-row")) as wire:
        got = called(wire, name)

    assert isinstance(got, Failed)
    assert (got.code, got.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert f"caller 'spiffe://shop/without-a-row' may not call {name}" in got.text


@pytest.mark.parametrize("name", sorted(OPEN))
def test_health_needs_no_row(secured: Secured, name: str) -> None:
    with secured.wire(secured.caller()) as wire:
        assert called(wire, name) is StatusCode.OK


def test_a_row_for_all_methods_opens_all(secured: Secured) -> None:
    with secured.wire(secured.caller(ADMIN)) as wire:
        assert {
            name for name in METHODS if isinstance(got := called(wire, name), Failed) and "row" in got.text
        } == set()


@pytest.mark.parametrize("method", [PREDICT, GET_MODEL])
def test_a_model_that_exists_is_refused_as_one_that_does_not(secured: Secured, method: str) -> None:
    with secured.wire(secured.caller(ORDERS)) as wire:
        texts = {
            (got.code, got.text, got.reason, str(got.facts))
            for name in (SEMANTIC, "absent.model", "*", "", "PRICING.LINEAR")
            for got in [wire.refused(method, _asking(method, name), metadata=(("x-request-id", "same"),))]
        }
    ((code, text, reason, facts),) = texts
    assert (code, reason, facts) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "{}")
    assert text == (
        f"caller {ORDERS!r} may not use this model with {method[1:]}; a row of the access table has to allow it"
    )


def test_each_request_of_a_stream_is_checked(secured: Secured) -> None:
    with secured.wire(secured.caller(ORDERS)) as wire:
        stream = Stream(wire.channel)
        stream.send(pricing([[4.0]], request_id="allowed"))
        stream.send(request(SEMANTIC, tensor("text"), request_id="existing"))
        stream.send(request("absent.model", tensor("text"), request_id="missing"))
        stream.half_close()
        answers = {answer.request_id: answer for answer in stream.rest()}

    assert answers["allowed"].WhichOneof("kind") == "ok"
    assert answers["existing"].error.code == StatusCode.PERMISSION_DENIED.value[0]
    assert answers["existing"].error == answers["missing"].error


@pytest.mark.parametrize(("caller", "models"), [(ADMIN, {PRICING, SEMANTIC}), (ORDERS, {PRICING}), (BLIND, set())])
def test_the_list_shows_what_the_caller_may_see(secured: Secured, caller: str, models: set[str]) -> None:
    with secured.wire(secured.caller(caller)) as wire:
        listed = wire.catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=20)

    assert {model.name for model in listed.models} == models


def test_a_row_of_a_method_that_is_not_served_is_refused() -> None:
    rule = Rule("orders.shop", frozenset({"mercato.v1.PredictionService/Predikt"}), frozenset("*"))
    with pytest.raises(
        ConfigError, match=r"access: the row of 'orders.shop' names method '.*Predikt', expected one of"
    ):
        Access([rule]).check_rows({"mercato.v1.PredictionService/Predict"})


def test_a_row_is_for_one_name() -> None:
    with pytest.raises(ConfigError, match="principal '\\*' names nobody"):
        Access([Rule("*", frozenset("*"), frozenset("*"))]).check_rows(())


def test_an_empty_table_allows_nothing() -> None:
    call = Call("a.B/C", b"", {}, 0.0, 1.0, bounded=False, principals=("orders.shop", "b" * 200))
    with pytest.raises(NotAllowed, match=r"^caller 'orders.shop, b{115}' may not call a.B/C"):
        Access([]).check_method(call)
    assert not Access([]).sees(call, PRICING) and Access().sees(call, PRICING)


def _asking(method: str, name: str) -> bytes:
    if method == PREDICT:
        return bytes(request(name).SerializeToString())
    message = catalog_pb2.GetModelRequest()
    message.model.name = name
    return message.SerializeToString()
