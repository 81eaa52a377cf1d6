"""A scripted server on a loopback socket, and a client connected to it."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.client.fake import FakeServer, numbers

from mercato.v1 import prediction_pb2_grpc
from mercato.v1.catalog_pb2_grpc import add_CatalogServiceServicer_to_server
from mercato_client import Client


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    grpc_server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    prediction_pb2_grpc.add_PredictionServiceServicer_to_server(fake, grpc_server)
    add_CatalogServiceServicer_to_server(fake, grpc_server)
    health_pb2_grpc.add_HealthServicer_to_server(fake.health, grpc_server)
    fake.address = f"127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    fake.health.set("", health_pb2.HealthCheckResponse.SERVING)
    fake.offer("pricing.linear", numbers("x", "FP32", 1))
    grpc_server.start()
    yield fake
    grpc_server.stop(None).wait()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout=5.0) as connected:
        yield connected


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens: port 1 is reserved."""
    return "127.0.0.1:1"
