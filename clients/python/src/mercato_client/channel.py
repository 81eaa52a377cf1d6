"""How the client connects: the target, channel options and the service config with its retry policy."""

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

from mercato_client import checks
from mercato_client.errors import DeadlineExceeded, Unavailable
from mercato_client.tls import TLS

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# Every unary method of ours may be called twice; a stream may not, since its answers would come twice.
_RETRIED = (
    ("mercato.v1.PredictionService", "Predict"),
    ("mercato.v1.CatalogService", "ListModels"),
    ("mercato.v1.CatalogService", "GetModel"),
)

# RESOURCE_EXHAUSTED is listed because gRPC obeys a server's pushback only for the codes named here.
_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": service, "method": method} for service, method in _RETRIED],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
SERVICE_CONFIG = json.dumps(_CONFIG)

# Calls go only to servers that say they are SERVING, told by one Watch per connection. A lone server gets none of it:
# while it starts it must still list its models and tell why one of them is not ready.
_WATCHED: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps({**_CONFIG, "healthCheckConfig": {"serviceName": ""}})),
)

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    # A server that has just started is found within 2 s, not after gRPC's default of up to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Above the 30 s that the server tolerates; only while calls are open.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A ping has a time limit of its own, a minute, before which the one above has no effect.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A proxy named in the environment is meant for the web and would swallow internal calls.
    ("grpc.enable_http_proxy", 0),
)


class Endpoint:
    """Where to connect and how: one address or several, encryption, and the largest message in bytes.

    The names in a list of several addresses are resolved here, once.
    Raises InvalidInput, and Unavailable for a name that cannot be resolved.
    """

    def __init__(self, address: str | Sequence[str], tls: TLS | None, max_message_bytes: int) -> None:
        self.addresses = checks.addresses(address)
        self.max_message_bytes = checks.size("max_message_bytes", max_message_bytes)
        self.target = self.addresses[0] if len(self.addresses) == 1 else _together(self.addresses)
        self.credentials = _credentials(tls)
        watched = _WATCHED if len(self.addresses) > 1 else ()
        self.options = (*dict((*OPTIONS, *watched)).items(), *self._sizes(), *_names(tls, self.addresses))

    def __str__(self) -> str:
        return ", ".join(self.addresses)

    def open(self, grpc: Any) -> Any:
        """A channel of module `grpc` or `grpc.aio`; it connects on first use."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, options=self.options)
        return grpc.secure_channel(self.target, self.credentials, options=self.options)

    def _sizes(self) -> tuple[tuple[str, int], ...]:
        size = self.max_message_bytes
        return ("grpc.max_send_message_length", size), ("grpc.max_receive_message_length", size)


class Deadline:
    """The moment by which all calls of one operation must have ended. Raises InvalidInput on no number of seconds."""

    __slots__ = ("end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = checks.seconds(seconds)
        self.end = time.monotonic() + self.seconds

    def remaining(self) -> float:
        """Seconds left. Raises DeadlineExceeded when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the timeout of {self.seconds:g} s has passed")
        return left


def _credentials(tls: TLS | None) -> Any:
    if tls is not None and not isinstance(tls, TLS):
        raise checks.wrong("tls", f"got {type(tls).__name__}, expected mercato_client.TLS")
    return tls.credentials() if tls else None


def _names(tls: TLS | None, addresses: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The name that the servers' certificates must have, where the target does not tell it."""
    if tls is None or (len(addresses) == 1 and not tls.server_name):
        return ()
    hosts = {_host_and_port(address)[0] for address in addresses} if len(addresses) > 1 else set()
    name = tls.server_name or (hosts.pop() if len(hosts) == 1 else "")
    if not name:
        raise checks.wrong("tls.server_name", "missing; several hosts are checked for one name in their certificates")
    return (("grpc.ssl_target_name_override", name),)


def _together(addresses: Sequence[str]) -> str:
    """One target for gRPC, which takes several addresses only as numbers of one family."""
    resolved = [_resolved(address) for address in addresses]
    for family, scheme in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
        if all(family in found for found in resolved):
            return f"{scheme}:{','.join(found[family] for found in resolved)}"
    raise checks.wrong("address", "got hosts of IPv4 and hosts of IPv6, expected several of one kind")


def _resolved(address: str) -> dict[socket.AddressFamily, str]:
    host, port = _host_and_port(address)
    try:
        infos = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the host of address {address!r} cannot be resolved") from error
    found: dict[socket.AddressFamily, str] = {}
    for family, _, _, _, name in infos:
        found.setdefault(family, f"[{name[0]}]:{port}" if family == socket.AF_INET6 else f"{name[0]}:{port}")
    return found


def _host_and_port(address: str) -> tuple[str, str]:
    parts = checks.host_and_port(address)
    if parts is None:
        raise checks.wrong("address", f'got {address!r}, expected "host:port" for each of several servers')
    return parts
