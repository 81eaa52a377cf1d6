"""How the client connects: channel options and the service config with its retry policy."""

import json
import time

import grpc

from mercato_client import checks
from mercato_client.errors import DeadlineExceeded

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# RESOURCE_EXHAUSTED is listed because gRPC obeys a server's pushback only for the codes named here.
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": "mercato.v1.PredictionService", "method": "Predict"}],
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
)

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", SERVICE_CONFIG),
    # A server that has just started is found within 2 s, not after gRPC's default of up to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Above the 30 s that the server tolerates; only while calls are open.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A proxy named in the environment is meant for the web and would swallow internal calls.
    ("grpc.enable_http_proxy", 0),
)


def open_channel(address: str) -> grpc.Channel:
    """A plaintext channel to `address`, "host:port" or any gRPC target; it connects on first use."""
    return grpc.insecure_channel(address, options=OPTIONS)


class Deadline:
    """The moment by which all calls of one operation must have ended. Raises InvalidInput on no number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = checks.seconds(seconds)
        self._end = time.monotonic() + self.seconds

    def remaining(self) -> float:
        """Seconds left. Raises DeadlineExceeded when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the timeout of {self.seconds:g} s has passed")
        return left
