"""The grpc.aio server of the data port: methods, options, health, reflection, start and drain."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato_server.errors import ConfigError
from mercato_server.rpc.access import Access
from mercato_server.rpc.catalog import CatalogMethods
from mercato_server.rpc.health import Health
from mercato_server.rpc.interceptor import Guard, Handler, library_handler
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.prediction import Prediction
from mercato_server.rpc.stream import PredictStream
from mercato_server.serving.catalog import Catalog

PREDICTION = prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


@dataclass(frozen=True)
class Limits:
    """What one caller may ask of the data port.

    `message_bytes` bounds one message in either direction, `fields` its parts, `default_deadline` in
    seconds holds for callers that set none.
    """

    message_bytes: int = 16 * 1024 * 1024
    fields: int = 65_536
    default_deadline: float = 30.0


class DataServer:
    """The data port. Construction binds nothing; `start` does."""

    def __init__(self, catalog: Catalog, limits: Limits, access: Access, observation: Observation) -> None:
        self.health = Health()
        self._server = grpc.aio.server(options=_options(limits))
        self._guard = Guard(limits.default_deadline, access, observation)
        self._prediction = Prediction(catalog, access, limits.fields)
        self._streams = PredictStream(
            self._prediction, observation, max_fields=limits.fields, default_deadline=limits.default_deadline
        )
        methods = CatalogMethods(catalog, access, limits.fields)
        self._register_unary(PREDICTION, {"Predict": self._prediction.predict})
        self._register_unary(CATALOG, {"ListModels": methods.list_models, "GetModel": methods.get_model})
        name = "PredictStream"
        stream = self._guard.stream(f"{PREDICTION}/{name}", self._streams.predict_stream)
        self._register(PREDICTION, {name: stream})
        self._register_libraries()

    async def start(self, address: str) -> int:
        """Bind `host:port` (port 0 lets the system choose) and serve; gives the port. Raises ConfigError."""
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if port == 0:
            raise ConfigError(f"cannot listen on {address}: the port is taken or the address is not this machine's")
        await self._server.start()
        return port

    async def settle_arrivals(self) -> None:
        """Return when every call that has arrived was admitted or refused; to be called before draining."""
        await self._prediction.settle_arrivals()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give running ones `grace` seconds, end."""
        self._streams.shut()
        await self._server.stop(grace)

    def _register_unary(self, service: str, methods: Mapping[str, Handler]) -> None:
        self._register(
            service, {name: self._guard.unary(f"{service}/{name}", method) for name, method in methods.items()}
        )

    def _register(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))

    def _register_libraries(self) -> None:
        """Health and reflection, each method under our guard."""
        collected = _Collector()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, collected)
        names = (PREDICTION, CATALOG, HEALTH, REFLECTION)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer(names), collected)
        for service, handlers in collected.services.items():
            self._register(service, {name: library_handler(handler) for name, handler in handlers.items()})


class _Collector:
    """Takes what generated `add_..._to_server` functions would register with a server."""

    def __init__(self) -> None:
        self.services: dict[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same methods come again, by name, in the next call."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Keep the methods of one service."""
        self.services[service] = handlers


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        # On by default in grpcio: a second server would share the port silently.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_concurrent_streams", 1024),
        ("grpc.max_metadata_size", 8192),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
        ("grpc.http2.max_ping_strikes", 2),
    ]
