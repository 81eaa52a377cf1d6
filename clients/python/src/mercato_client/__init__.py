"""The Python client of the Mercato model server: its public names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mercato_client.errors import (
    DeadlineExceeded,
    InvalidInput,
    MercatoError,
    NotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    ServerError,
    StaleSchema,
    Unavailable,
    Violation,
)
from mercato_client.prediction import Prediction, Receipt, ServedModel
from mercato_client.schema import (
    Axis,
    Catalog,
    Certificate,
    Field,
    Model,
    ModelVersion,
    OutputError,
    Parameter,
    Plugin,
    RefusedPlugin,
    Signature,
    TopK,
)

if TYPE_CHECKING:
    from mercato_client.async_client import AsyncClient
    from mercato_client.async_stream import AsyncPending, AsyncStream
    from mercato_client.client import Client
    from mercato_client.health import Health
    from mercato_client.stream import Pending, Stream
    from mercato_client.tls import TLS

__all__ = [
    "TLS",
    "AsyncClient",
    "AsyncPending",
    "AsyncStream",
    "Axis",
    "Catalog",
    "Certificate",
    "Client",
    "DeadlineExceeded",
    "Field",
    "Health",
    "InvalidInput",
    "MercatoError",
    "Model",
    "ModelVersion",
    "NotFound",
    "NotReady",
    "OutputError",
    "Overloaded",
    "Parameter",
    "Pending",
    "PermissionDenied",
    "Plugin",
    "Prediction",
    "Receipt",
    "RefusedPlugin",
    "ServedModel",
    "ServerError",
    "Signature",
    "StaleSchema",
    "Stream",
    "TopK",
    "Unavailable",
    "Violation",
]

# Imported on first use: they bring grpc, which reads its settings when it is imported, and the `mercato` command
# runs commands of other distributions that have settings of their own.
_ON_FIRST_USE = {
    "AsyncClient": "mercato_client.async_client",
    "AsyncPending": "mercato_client.async_stream",
    "AsyncStream": "mercato_client.async_stream",
    "Client": "mercato_client.client",
    "Health": "mercato_client.health",
    "Pending": "mercato_client.stream",
    "Stream": "mercato_client.stream",
    "TLS": "mercato_client.tls",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name]), name)
