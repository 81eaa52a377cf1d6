"""What every gRPC port of the server has in common: how it is bound, and what bounds one connection."""

# grpc's classes are generic in their stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import grpc

from mercato_server.errors import ConfigError
from mercato_server.rpc.core import Server

# Of one connection: calls at a time, metadata of one call, seconds between pings without calls, and how often a
# caller may ping sooner.
MAX_STREAMS = 1024
MAX_METADATA_BYTES = 8192
PING_SECONDS = 30
MAX_PING_STRIKES = 2
# A caller that is gone is found after both. The answer to a ping may wait behind a message on a slow line, so it has
# longer than a line that is idle needs.
KEEPALIVE_SECONDS = 60
ANSWER_SECONDS = 60
HANDSHAKE_SECONDS = 20

Options = list[tuple[str, int]]


def options(message_bytes: int, connection_age: float = 0.0) -> Options:
    """For a server. After `connection_age` seconds callers are asked to reconnect, without an end to open calls."""
    age = [("grpc.max_connection_age_ms", max(1, round(connection_age * 1000)))] if connection_age else []
    return [
        # On by default in grpcio: a second server would share the port silently.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        # Between the two grpcio refuses at random.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_SECONDS * 1000),
        ("grpc.http2.max_ping_strikes", MAX_PING_STRIKES),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.http2.ping_timeout_ms", ANSWER_SECONDS * 1000),
        # In both directions: without it an idle caller that is gone is never found, and one that pings is cut off.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        *age,
    ]


def bind(server: Server, setting: str, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
    """Bind the `host:port` of a setting (port 0 lets the system choose), in plain text without credentials.

    Gives the port. Raises ConfigError.
    """
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        fault = "the port is taken or the address is not this machine's"
        raise ConfigError(f"{setting}: cannot listen on {address}: {fault}")
    return port
