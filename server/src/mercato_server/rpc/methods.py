"""What one server serves: every method under the guard, registered by service, and listed by its full name."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from mercato_server.rpc.core import Server
from mercato_server.rpc.health import Health
from mercato_server.rpc.interceptor import Guard, Handler, StreamHandler, TellingHandler
from mercato_server.rpc.libraries import HEALTH, REFLECTION, health_methods, reflection_methods


class Methods:
    """The methods of one server. `names` are `package.Service/Method`."""

    def __init__(self, server: Server, guard: Guard) -> None:
        self.names: set[str] = set()
        self._server = server
        self._guard = guard

    def add(
        self,
        service: str,
        unary: Mapping[str, Handler],
        telling: Mapping[str, TellingHandler] | None = None,
        streams: Mapping[str, StreamHandler] | None = None,
    ) -> None:
        """A service of our own: its unary methods, those that answer one request with many messages, its streams."""
        guard = self._guard
        self._register(
            service,
            {
                **{name: guard.unary(f"{service}/{name}", method) for name, method in unary.items()},
                **{name: guard.telling(f"{service}/{name}", method) for name, method in (telling or {}).items()},
                **{name: guard.stream(f"{service}/{name}", method) for name, method in (streams or {}).items()},
            },
        )

    def add_health(self, health: Health) -> None:
        """Health, open to every caller: probes must never be locked out."""
        methods = health_methods(health)
        self._register(HEALTH, {n: self._guard.library(f"{HEALTH}/{n}", m, is_open=True) for n, m in methods.items()})

    def add_reflection(self, *services: str) -> None:
        """Reflection, which tells of these services, of health and of itself."""
        methods = reflection_methods((*services, HEALTH, REFLECTION))
        self._register(REFLECTION, {n: self._guard.library(f"{REFLECTION}/{n}", m) for n, m in methods.items()})

    def _register(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self.names |= {f"{service}/{name}" for name in handlers}
        self._server.add_registered_method_handlers(service, dict(handlers))
