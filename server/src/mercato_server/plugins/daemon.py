"""Calls that the end of the process does not wait for: each on a daemon thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

Taken = ParamSpec("Taken")
Given = TypeVar("Given")


def in_daemon_thread(function: Callable[Taken, Given], *args: Taken.args, **kwargs: Taken.kwargs) -> Awaitable[Given]:
    """What `function` returns or raises, once it is done.

    The default executor's threads are joined when the loop ends, so that a hanging import would hold it up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Given] = loop.create_future()

    def run() -> None:
        try:
            outcome: tuple[Any, BaseException | None] = (function(*args, **kwargs), None)
        except BaseException as error:  # an exit on this thread would leave the caller waiting
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_settle, future, *outcome)

    threading.Thread(target=run, name=function.__name__, daemon=True).start()
    return future


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error if isinstance(error, Exception) else RuntimeError(f"a call raised {error!r}"))
