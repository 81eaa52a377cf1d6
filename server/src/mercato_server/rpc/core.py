"""The grpc.aio server under every port: calls of paths that are no method end here.

grpc.aio decodes the path of a call without a registered method in its accepting loop: one that is not UTF-8 raises
there and ends the loop, and with it the server. So every method is registered, and calls of anything else are refused
before that loop sees them.
"""

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

# What grpc.aio logs as errors, with a traceback, though callers bring it about: an answer whose caller is gone, and
# metadata that is no text, which it prints.
_CALLERS_DOING = ("ExecuteBatchError raised in core by servicer method", "Invalid encoding on")


def _is_ours(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_CALLERS_DOING)


class _Accepting(cygrpc.AioServer):  # type: ignore[misc]
    def __init__(self, loop: asyncio.AbstractEventLoop, options: tuple[tuple[str, int], ...]) -> None:
        super().__init__(loop, None, (), None, options, None)
        self._on = loop
        self._refusals: set[asyncio.Task[None]] = set()

    async def _request_call(self) -> Any:
        """Refuse calls of unknown methods until the server stops."""
        while True:
            self._refuse(await super()._request_call())

    def _refuse(self, call: Any) -> None:
        refusal = cygrpc._ServicerContext(call, None, None, self._on).abort(
            grpc.StatusCode.UNIMPLEMENTED, "Method not found!"
        )
        task = self._on.create_task(cygrpc._schedule_rpc_coro(refusal, call, self._on, "unknown"))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)


class Server(_server.Server):
    """A grpc.aio.Server whose methods have to come through `add_registered_method_handlers`."""

    def __init__(self, options: list[tuple[str, int]]) -> None:
        logging.getLogger(cygrpc.__name__).addFilter(_is_ours)
        self._loop = cygrpc.get_working_loop()
        self._server = _Accepting(self._loop, tuple(options))
