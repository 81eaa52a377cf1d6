"""Doing one step of a plan, waiting for it in a coroutine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from mercato_client.errors import InvalidInput
from mercato_client.status import CLOSED, translate


async def outcome(step: Callable[[], Awaitable[Any]], address: str) -> Any:
    """The reply to a step, or the MercatoError that it led to."""
    try:
        return await step()
    except (grpc.RpcError, grpc.aio.UsageError) as error:
        return translate(error, address)
    except asyncio.CancelledError:
        if wanted():
            raise
        return InvalidInput(CLOSED)


def wanted() -> bool:
    """Whether the caller cancels this task; if not, closing the channel has cancelled the call that it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def read(stream: Any) -> Any:
    """The next message of a stream, None at its end."""
    message = await stream.read()
    return None if message is grpc.aio.EOF else message
