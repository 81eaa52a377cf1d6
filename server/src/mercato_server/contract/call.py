"""A remote call without its transport: what a handler in `rpc` receives."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Call:
    """One unary call. `deadline` is in seconds of the monotonic clock.

    A cancelled caller cancels the handler's task, and so does the transport's own deadline;
    `bounded` says whether there is one. `request_id` is settled when the request has been read.
    """

    request: bytes
    metadata: Mapping[str, str]
    deadline: float
    bounded: bool
    request_id: str = ""
