"""Servers as real processes: start them, wait for what they announce, stop them, ask the kernel about them."""

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MERCATO = Path(sys.executable).with_name("mercato")
PLUGINS = ("mercato-pricing", "mercato-semantic")
# An export runs at the lowest priority: on cores that are busy otherwise it gets a small share of them.
PATIENCE = 300.0
# Of the admin sockets of all servers of a run; their paths have to be short.
RUNTIME = tempfile.mkdtemp(prefix="mercato-")
atexit.register(shutil.rmtree, RUNTIME, ignore_errors=True)


def environment(home: Path, plugins: tuple[str, ...] = PLUGINS, **more: str) -> dict[str, str]:
    """Nothing of the caller's environment but PATH; a home of its own; only the named plugins."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_RUNTIME_DIR": RUNTIME,
        "MERCATO_PLUGINS_ALLOW": json.dumps(plugins),
        **more,
    }


class Running:
    """One `mercato serve`. Its log is `log`; `address` is known once it listens."""

    def __init__(
        self, store: Path, folder: Path, env: Mapping[str, str], *flags: str, listen: str = "127.0.0.1:0"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.home = Path(env["HOME"])
        self._log = folder / "log"
        self._pending = b""
        # Servers of one machine never meet; a flag of the test's own comes later and wins.
        ports = ("--metrics-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [MERCATO, "serve", "--store", store, "--listen", listen, *ports, "--json", *flags],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=folder, bufsize=0,
            )  # fmt: skip
        self.address = ""

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        return self.process.pid

    def listening(self) -> "Running":
        """Wait until the port is open."""
        event = self.event("listening")
        self.address = f"127.0.0.1:{event['port']}"
        self.metrics_port: int | None = event["metrics_port"]
        return self

    def ready(self) -> dict[str, Any]:
        """Wait until every model has settled; what the server says of them."""
        if not self.address:
            self.listening()
        return self.event("ready")

    def event(self, name: str) -> dict[str, Any]:
        """The next event, which must have this name."""
        event: dict[str, Any] = json.loads(self._line())
        assert event["event"] == name, f"got {event}, expected {name}"
        return event

    @property
    def is_silent(self) -> bool:
        """Whether it has told nothing more on its standard output."""
        assert self.process.stdout is not None
        return not self._pending and not select.select([self.process.stdout], [], [], 0)[0]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for the end; gives the exit code."""
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.ended()

    def maps(self) -> str:
        """Files that are mapped into its memory."""
        return Path(f"/proc/{self.pid}/maps").read_text()

    def children(self) -> list[int]:
        """Processes it has started that still run."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def descriptors(self) -> list[str]:
        """What its open descriptors are."""
        return [os.readlink(path) for path in Path(f"/proc/{self.pid}/fd").iterdir()]

    def threads(self) -> int:
        """Number of its threads without gRPC's pool, which starts one more when all are busy and keeps it for 20 s."""
        count = 0
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                count += (thread / "comm").read_text() != "event_engine\n"
        return count

    def memory(self) -> int:
        """Bytes it holds now."""
        return self._kilobytes("VmRSS") * 1024

    def peak(self) -> int:
        """Most bytes it has held since `forget_peak`."""
        return self._kilobytes("VmHWM") * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _kilobytes(self, field: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        until = time.monotonic() + PATIENCE
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            chunk = self.process.stdout.read(65536) if ready else b""
            assert chunk, f"no event from the server; its log:\n{self.log}"
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line
