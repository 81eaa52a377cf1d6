"""The grpc.aio server of the data port: its methods, start and drain."""

from dataclasses import dataclass

from mercato.v1 import prediction_pb2
from mercato_server.rpc import port
from mercato_server.rpc.access import Access
from mercato_server.rpc.catalog import CATALOG, CatalogMethods
from mercato_server.rpc.core import Server
from mercato_server.rpc.health import Health
from mercato_server.rpc.interceptor import Guard, nobody
from mercato_server.rpc.methods import Methods
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.prediction import Prediction
from mercato_server.rpc.probe import ProbeServer
from mercato_server.rpc.stream import PredictStream
from mercato_server.rpc.tls import Certificates, principals
from mercato_server.serving.catalog import Catalog

PREDICTION = prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name


@dataclass(frozen=True)
class Limits:
    """What one caller may ask of the data port.

    `message_bytes` bounds one message in either direction, `fields` its parts, `default_deadline` in
    seconds holds for callers that set none. After `connection_age` seconds a connection is asked to reconnect,
    0 means never.
    """

    message_bytes: int = 16 * 1024 * 1024
    fields: int = 65_536
    default_deadline: float = 30.0
    connection_age: float = 300.0


class DataServer:
    """The data port, in plain text without `certificates`. Construction binds nothing; `start` does.

    `methods` are the full names of all that is served. Raises ConfigError for a row of `access` that names another.
    """

    def __init__(
        self,
        catalog: Catalog,
        limits: Limits,
        access: Access,
        observation: Observation,
        certificates: Certificates | None = None,
    ) -> None:
        self.health = Health()
        self._certificates = certificates
        self._server = Server(port.options(limits.message_bytes, limits.connection_age))
        asks_callers = certificates is not None and certificates.asks_callers
        self._guard = Guard(limits.default_deadline, access, observation, principals if asks_callers else nobody)
        self._prediction = Prediction(catalog, access, limits.fields, limits.message_bytes)
        self._streams = PredictStream(
            self._prediction, observation, max_fields=limits.fields, default_deadline=limits.default_deadline
        )
        methods = Methods(self._server, self._guard)
        methods.add(
            PREDICTION, {"Predict": self._prediction.predict}, streams={"PredictStream": self._streams.predict_stream}
        )
        methods.add(CATALOG, CatalogMethods(catalog, access, limits.fields).unary())
        methods.add_health(self.health)
        methods.add_reflection(PREDICTION, CATALOG)
        self.methods = methods.names
        access.check_rows(self.methods)

    async def start(self, address: str) -> int:
        """Bind `host:port` (port 0 lets the system choose) and serve; gives the port. Raises ConfigError."""
        credentials = self._certificates.credentials() if self._certificates else None
        bound = port.bind(self._server, "listen", address, credentials)
        await self._server.start()
        return bound

    def probe(self) -> ProbeServer:
        """A port of its own for the health of this one."""
        return ProbeServer(self.health, self._guard)

    async def settle_arrivals(self) -> None:
        """Return when every call that has arrived was admitted or refused; to be called before draining."""
        await self._prediction.settle_arrivals()

    def open_streams(self) -> int:
        """Number of open PredictStream calls; any thread may ask."""
        return self._streams.count()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give running ones `grace` seconds, end."""
        self._streams.shut()
        await self._server.stop(grace)
