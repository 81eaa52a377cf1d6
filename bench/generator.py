"""One process of an open-loop load: it sends the calls of its plan when they are due, and writes what became of them.

The plan comes on standard input; the time to begin follows once "ready" was printed.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import grpc
import numpy as np
import uvloop
from bench import http2
from bench.http2 import Connection, Method, Reply
from bench.open_loop import UNSENT, Flow, Records, unpacked
from google.rpc import error_details_pb2, status_pb2

STREAMS = 500
"""Calls in flight for each connection; the server refuses a 1025th, and learns later than the client that one ended."""
TICK = 1e-3
"""How often the generator looks what is due, which is as fine as the timers of its loop."""

Outcome = tuple[str, str, float]
"""The name of a status, the reason of its ErrorInfo or "", and the pushback in milliseconds or nan."""

NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
RESETS = {http2.REFUSED: "UNAVAILABLE", http2.CANCEL: "CANCELLED"}


class Sender:
    """The calls of one flow; what came back is read only after the load, when no call waits for it."""

    def __init__(self, flow: Flow, address: str, connections: Sequence[Connection], begin: float) -> None:
        self._flow = flow
        self._begin = begin
        self._method = Method(address, flow.method)
        self._connections = cycle(connections)
        self._due = flow.due()
        self._sent = np.full(len(self._due), math.nan)
        self._replies: list[Reply | None] = []
        self._open: deque[tuple[float, Connection, Reply]] = deque()

    @property
    def is_done(self) -> bool:
        """Whether every call was due and has ended, or nobody waits for it."""
        return self._has_sent and (self._flow.background or not self._open)

    @property
    def _has_sent(self) -> bool:
        return len(self._replies) == len(self._due)

    def work(self) -> None:
        """Begin what is due, and give up what has passed its deadline."""
        now = time.perf_counter()
        while not self._has_sent and self._begin + self._due[len(self._replies)] <= now:
            self._send(len(self._replies), now)
        while self._open and (self._open[0][2].ended or self._open[0][0] <= now):
            _, connection, reply = self._open.popleft()
            if not reply.ended:
                connection.give_up(reply)

    def _send(self, number: int, now: float) -> None:
        self._sent[number] = now - self._begin
        deadline = self._begin + float(self._due[number]) + self._flow.deadline
        if deadline <= now:
            self._replies.append(None)
            return
        connection = next(self._connections)
        payload = self._flow.payloads[number % len(self._flow.payloads)]
        reply = connection.call(self._method, payload, deadline)
        self._replies.append(reply)
        self._open.append((deadline, connection, reply))

    def records(self) -> Records:
        """What became of all calls, those that were left open too."""
        count = len(self._due)
        outcomes = [outcome(reply) for reply in self._replies]
        status, reason, pushback = zip(*outcomes, strict=True) if outcomes else ((), (), ())
        replies = [reply or Reply() for reply in self._replies]
        return Records(
            payload=np.arange(count) % len(self._flow.payloads),
            due=self._due,
            sent=self._sent,
            ended=np.array([reply.ended or math.nan for reply in replies], np.float64) - self._begin,
            deadline=np.full(count, self._flow.deadline),
            status=np.array(status, np.str_),
            reason=np.array(reason, np.str_),
            pushback_ms=np.array(pushback, np.float64),
            answers=[reply.message if name == "OK" else b"" for reply, name in zip(replies, status, strict=True)],
        )


def outcome(reply: Reply | None) -> Outcome:
    """What a gRPC client would tell of a reply; None was never sent."""
    if reply is None:
        return UNSENT, "", math.nan
    if reply.is_late:
        return "DEADLINE_EXCEEDED", "", math.nan
    if not reply.ended:
        return "CANCELLED", "", math.nan
    if reply.reset is not None:
        return RESETS.get(reply.reset, "INTERNAL"), "", math.nan
    told = http2.trailers(reply.block)
    if "grpc-status" not in told:  # the connection was lost
        return "UNAVAILABLE", "", math.nan
    reason = _reason(http2.binary(told.get("grpc-status-details-bin", "")))
    return NAMES[int(told["grpc-status"])], reason, float(told.get("grpc-retry-pushback-ms", "nan"))


def _reason(details: bytes) -> str:
    info = error_details_pb2.ErrorInfo()
    has_info = any(detail.Unpack(info) for detail in status_pb2.Status.FromString(details).details)
    return str(info.reason) if has_info else ""


def main() -> None:
    """Read, send, write."""
    plan = json.loads(sys.stdin.readline())
    flows = [unpacked(flow) for flow in plan["flows"]]
    for number, records in enumerate(uvloop.run(_load(plan["address"], flows))):
        records.save(Path(plan["folder"], f"{number}.npz"))


async def _load(address: str, flows: Sequence[Flow]) -> list[Records]:
    """The flows share connections, so that the server sees one caller, or as many for each."""
    count = math.ceil(sum(flow.most_in_flight for flow in flows) / STREAMS)
    connections = [await Connection.open(address) for _ in range(count)]
    print("ready", flush=True)
    begin = float(sys.stdin.readline())  # nothing else happens in this loop yet
    senders = [Sender(flow, address, connections, begin) for flow in flows]
    while not all(sender.is_done for sender in senders):
        for sender in senders:
            sender.work()
        for connection in connections:
            connection.flush()
        await asyncio.sleep(TICK)
    for connection in connections:
        connection.close()
    return [sender.records() for sender in senders]


if __name__ == "__main__":
    main()
