"""Methods of gRPC's own services, collected by name so that each is registered under our guard."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from mercato_server.rpc.health import Health

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

Handlers: TypeAlias = "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"


def health_methods(health: Health) -> Handlers:
    """The methods of grpc.health.v1.Health by name."""
    collected = _Collector()
    health_pb2_grpc.add_HealthServicer_to_server(health, collected)
    return collected.methods


def reflection_methods(services: tuple[str, ...]) -> Handlers:
    """The methods of server reflection by name; it tells of these services."""
    collected = _Collector()
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer(services), collected)
    return collected.methods


class _Collector:
    """Takes what a generated `add_..._to_server` function would register with a server."""

    def __init__(self) -> None:
        self.methods: Handlers = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same methods come again, by name, in the next call."""

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        """Keep the methods."""
        self.methods = handlers
