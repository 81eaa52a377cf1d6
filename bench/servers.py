"""The processes under measurement: started on a free loopback port, their CPU time read, stopped by their own id."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MERCATO = str(Path(sys.executable).with_name("mercato"))


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

    def processes(self) -> list[int]:
        """The server's own process and those that it has started and that still run (Linux)."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [self.process.pid, *(int(pid) for task in tasks for pid in task.read_text(encoding="utf-8").split())]

    def cpu_seconds(self) -> float:
        """CPU time so far of all threads of the server and of its running workers, to the nanosecond (Linux).

        Threads that have ended count, processes that have ended do not.
        """
        # The clock id of another process, as clock_getcpuclockid(3) makes it; /proc counts in steps of 10 ms.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.processes())

    def event(self, name: str) -> dict[str, Any]:
        """The next JSON line with this event. Raises RuntimeError when the server ends first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise RuntimeError(f"the server ended with code {self.process.wait()} before event {name!r}")


def environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment and more."""
    return {**os.environ, **(more or {})}


@contextlib.contextmanager
def started(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server from its command line, listening; SIGTERM at the end. `env` is added to the environment."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(env)) as process:
        server = Server(process, begin)
        try:
            server.port = server.event("listening")["port"]
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextlib.contextmanager
def mercato(store: Path | None, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`mercato serve` over `store`, by default the one that `make demo` fills; listening, not yet ready."""
    chosen = [] if store is None else ["--store", str(store)]
    ports = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    with started([MERCATO, "serve", *ports, "--log-level", "ERROR", "--json", *chosen, *flags], env) as server:
        yield server


@contextlib.contextmanager
def echo(answer_bytes: int) -> Iterator[Server]:
    """The bare echo, answering `answer_bytes` to every call."""
    with started([sys.executable, "-m", "bench.echo", str(answer_bytes)]) as server:
        yield server
