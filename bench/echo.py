"""The yardstick: a grpc.aio server whose one method looks at nothing and answers a fixed number of bytes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import grpc
import grpc.aio
import uvloop

METHOD = "/bench.Echo/Echo"


async def serve(answer_bytes: int) -> None:
    """Listen on a free port, print it as `mercato serve --json` does, and answer until SIGTERM."""
    answer = bytes(answer_bytes)

    async def echo(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer

    _, service, method = METHOD.split("/")
    handler = grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(echo)})
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(json.dumps({"event": "listening", "port": port}), flush=True)
    await stopped.wait()
    await server.stop(grace=1.0)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
