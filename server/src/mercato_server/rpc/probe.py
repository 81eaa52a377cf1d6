"""The probe port: grpc.health.v1 in plain text, for probes of this machine that speak no TLS."""

from mercato_server.rpc import port
from mercato_server.rpc.core import Server
from mercato_server.rpc.health import Health
from mercato_server.rpc.interceptor import Guard
from mercato_server.rpc.methods import Methods

# A probe asks with the name of a model at most.
MAX_MESSAGE_BYTES = 4096


class ProbeServer:
    """The states of the data port's `health` on a port of its own. Construction binds nothing; `start` does."""

    def __init__(self, health: Health, guard: Guard) -> None:
        self._server = Server(port.options(MAX_MESSAGE_BYTES))
        Methods(self._server, guard).add_health(health)

    async def start(self, address: str) -> int:
        """Bind `host:port` (port 0 lets the system choose) and serve; gives the port. Raises ConfigError."""
        bound = port.bind(self._server, "probe_listen", address)
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """End at once; probes are short, and Watch streams end with `health`."""
        await self._server.stop(0)
