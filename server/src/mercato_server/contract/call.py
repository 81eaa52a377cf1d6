"""A remote call without its transport: what a handler in `rpc` receives."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mercato_server.contract.receipt import Receipt


@dataclass(slots=True)
class Call:
    """One request. `started` and `deadline` are in seconds of the monotonic clock.

    A cancelled caller cancels the handler's task, and so does the transport at the deadline where `bounded` says that
    the caller set it. `method` is `package.Service/Method`, `principals` the names of who calls, none without client
    certificates; `caller` is who shares a busy model with others: the first of these names, else the peer's host.
    `nbytes` is the size of the request's message.
    `request_id`, `model` and `version` are known once the request has been read: `model` stays "" for a name that is no
    model. `receipt` is there once there is an answer.
    """

    method: str
    request: bytes
    metadata: Mapping[str, str]
    started: float
    deadline: float
    bounded: bool
    principals: tuple[str, ...] = ()
    caller: str = ""
    nbytes: int = 0
    request_id: str = ""
    model: str = ""
    version: int = 0
    receipt: Receipt | None = None


@dataclass(slots=True)
class StreamCall:
    """One bidirectional stream: `call` opened it and has no request of its own.

    `read` gives the next message, None after the caller's half-close; `send` returns when the transport has room
    for more.
    """

    call: Call
    read: Callable[[], Awaitable[bytes | None]]
    send: Callable[[bytes], Awaitable[None]]
