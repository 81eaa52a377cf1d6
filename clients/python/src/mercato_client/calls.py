"""Doing one step of a plan, waiting for it in the calling thread."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from mercato_client.status import translate


def outcome(step: Callable[[], Any], address: str) -> Any:
    """The reply to a step, or the MercatoError that it led to."""
    try:
        return step()
    except (grpc.RpcError, ValueError) as error:
        return translate(error, address)


def read(stream: Iterator[Any]) -> Any:
    """The next message of a stream, None at its end."""
    return next(stream, None)
