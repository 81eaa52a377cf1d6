"""The admin listener: what an operator may ask, on a socket of his own or a loopback port, never on the data port."""

from pathlib import Path

from mercato_server.contract.administration import Administration
from mercato_server.rpc import port
from mercato_server.rpc.access import Access
from mercato_server.rpc.admin import ADMIN, AdminMethods
from mercato_server.rpc.admin_socket import SCHEME, AdminSocket
from mercato_server.rpc.catalog import CATALOG, CatalogMethods
from mercato_server.rpc.core import Server
from mercato_server.rpc.health import Health
from mercato_server.rpc.interceptor import Guard
from mercato_server.rpc.methods import Methods
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import Limits
from mercato_server.serving.catalog import Catalog


class AdminServer:
    """The admin listener, in plain text; who may reach the socket may do everything. `start` binds.

    `health` is the data port's. `methods` are the full names of all that is served.
    """

    def __init__(
        self,
        catalog: Catalog,
        administration: Administration,
        limits: Limits,
        observation: Observation,
        health: Health,
    ) -> None:
        self._server = Server(port.options(limits.message_bytes))
        self._admin = AdminMethods(administration, catalog.models, limits.fields)
        self._socket: AdminSocket | None = None
        access = Access()
        methods = Methods(self._server, Guard(limits.default_deadline, access, observation))
        methods.add(ADMIN, self._admin.unary(), self._admin.telling())
        methods.add(CATALOG, CatalogMethods(catalog, access, limits.fields).unary())
        methods.add_health(health)
        methods.add_reflection(ADMIN, CATALOG)
        self.methods = methods.names

    async def start(self, address: str) -> str:
        """Bind `unix:/path` or `host:port` (port 0 lets the system choose), and serve; gives the address in use.

        Raises ConfigError, also for a socket that another server listens on.
        """
        if address.startswith(SCHEME):
            self._socket = AdminSocket(Path(address.removeprefix(SCHEME)))
            self._socket.place(lambda fresh: port.bind(self._server, "admin_listen", fresh))
        else:
            address = f"{address.rpartition(':')[0]}:{port.bind(self._server, 'admin_listen', address)}"
        await self._server.start()
        return address

    async def stop(self, grace: float) -> None:
        """Give up loads that still go on, give running calls `grace` seconds, and remove the socket."""
        await self._admin.stop()
        await self._server.stop(grace)
        if self._socket is not None:
            self._socket.remove()
