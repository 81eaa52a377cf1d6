"""One stream without a network: messages arrive when a test says so, and answers leave while it lets them."""

import asyncio
import time

from mercato_server.contract.call import Call, StreamCall


class Transport:
    """The caller's side of one stream."""

    def __init__(self, seconds: float | None = None) -> None:
        self.sent: list[bytes] = []
        self._incoming: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._open = asyncio.Event()
        self._open.set()
        self._is_cut = False
        now = time.monotonic()
        call = Call("PredictStream", b"", {}, now, now + (seconds or 30.0), bounded=seconds is not None)
        self.stream = StreamCall(call, self._read, self._send)

    @property
    def unread(self) -> int:
        return self._incoming.qsize()

    def arrived(self, message: bytes) -> None:
        self._incoming.put_nowait(message)

    def half_close(self) -> None:
        self._incoming.put_nowait(None)

    def fail(self, error: Exception) -> None:
        self._incoming.put_nowait(error)

    def cut(self) -> None:
        """Answers cannot be sent any more."""
        self._is_cut = True

    def stall(self) -> None:
        """The caller reads no more."""
        self._open.clear()

    def go_on(self) -> None:
        self._open.set()

    async def _read(self) -> bytes | None:
        message = await self._incoming.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: bytes) -> None:
        await self._open.wait()
        if self._is_cut:
            raise RuntimeError("connection lost")
        self.sent.append(message)
