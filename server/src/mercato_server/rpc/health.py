"""grpc.health.v1 for the server and for every model.

The library's own asyncio servicer has no way to end an open Watch stream, which then holds the server's
stop for the whole grace; this one ends them as soon as they have sent NOT_SERVING.
"""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """States by service name; `""` is the server, every other name a model."""

    def __init__(self) -> None:
        self._states = {"": NOT_SERVING}
        self._changed = asyncio.Event()
        self._shut = False

    def set(self, service: str, serving: bool) -> None:
        """Announce a state; ignored once the server is shutting down."""
        if self._shut:
            return
        self._states[service] = SERVING if serving else NOT_SERVING
        self._wake()

    def shut(self) -> None:
        """Announce NOT_SERVING everywhere, for good, and end the Watch streams."""
        self._shut = True
        self._states = dict.fromkeys(self._states, NOT_SERVING)
        self._wake()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """The state of one service; NOT_FOUND for a name that is no model."""
        status = self._states.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:
        """The state of every service."""
        states = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._states.items()}
        return health_pb2.HealthListResponse(statuses=states)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """The state of one service now and after every change, until the caller leaves or the server stops."""
        if self._shut:
            # Clients open a Watch that has answered anew at once, and one that has not after a pause.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        last = None
        while True:
            # As they are before the write, during which the server may stop.
            changed, is_shut = self._changed, self._shut
            status = self._states.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
            if is_shut:
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
