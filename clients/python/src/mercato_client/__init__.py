"""The Python client of the Mercato model server: its public names."""

from mercato_client.client import Client
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
from mercato_client.health import Health
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
)

__all__ = [
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
    "PermissionDenied",
    "Plugin",
    "Prediction",
    "Receipt",
    "RefusedPlugin",
    "ServedModel",
    "ServerError",
    "Signature",
    "StaleSchema",
    "Unavailable",
    "Violation",
]
