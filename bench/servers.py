"""The processes under measurement: started on a free loopback port, their CPU time read, stopped by their own id."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """A running server; `started` and the times of its events are seconds of `time.perf_counter`."""

    process: subprocess.Popen[str]
    started: float
    port: int = 0

    @property
    def address(self) -> str:
        """Where a channel connects."""
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, ended ones included, to the nanosecond (Linux)."""
        # The clock id of another process, as clock_getcpuclockid(3) makes it; /proc counts in steps of 10 ms.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def event(self, name: str) -> dict[str, Any]:
        """The next JSON line with this event. Raises RuntimeError when the server ends first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise RuntimeError(f"the server ended with code {self.process.wait()} before event {name!r}")


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[Server]:
    """A server from its command line, listening; SIGTERM at the end."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        server = Server(process, begin)
        try:
            server.port = server.event("listening")["port"]
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextlib.contextmanager
def mercato(store: Path | None) -> Iterator[Server]:
    """`mercato serve` over `store`, by default the one that `make demo` fills; listening, not yet ready."""
    command = str(Path(sys.executable).with_name("mercato"))
    chosen = [] if store is None else ["--store", str(store)]
    ports = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    with started([command, "serve", *ports, "--log-level", "ERROR", "--json", *chosen]) as server:
        yield server


@contextlib.contextmanager
def echo(answer_bytes: int) -> Iterator[Server]:
    """The bare echo, answering `answer_bytes` to every call."""
    with started([sys.executable, "-m", "bench.echo", str(answer_bytes)]) as server:
        yield server
