"""A plugin whose batches stop where a test wants it to, and fail on a guilty row, and the site where it is served."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.calls import Wire, served
from tests.server.conftest import Start
from tests.server.gate import GATE, Gate, install
from tests.server.running import MERCATO, PATIENCE, Running, environment
from tests.server.telemetry.scraping import value

MODEL = "test.shelf"
DISTRIBUTION = "test-shelf"
WAITS, GUILTY, REFUSED = -1.0, -2.0, -3.0

_SOURCE = GATE.replace("test.gate", MODEL).replace(
    """        if batch.inputs["x"][0, 0] < 0:
            stop("run")
""",
    """        x = batch.inputs["x"][:, 0]
        if (x == -1).any():
            stop("run")
        if (x == -2).any():
            raise ValueError("a guilty row")
        for row in (x == -3).nonzero()[0]:
            batch.reject(row, "x", "refused")
""",
)


@dataclass(frozen=True)
class Shelf:
    """The server, calls of it, and the gate at which its runs stop."""

    running: Running
    wire: Wire
    gate: Gate

    def arrived(self, count: int) -> None:
        """Return once so many requests are in flight."""
        until = time.monotonic() + PATIENCE
        while value(self.running, "mercato_requests_in_flight") != count:
            assert time.monotonic() < until, f"{count} requests never arrived"

    def administered(self, *command: str) -> Any:
        """What `mercato admin` prints."""
        port = self.running.address.rpartition(":")[2]
        asked: list[str] = [str(MERCATO), "admin", *command, "--port", port, "--json"]
        env = environment(self.running.home)
        return json.loads(subprocess.run(asked, env=env, check=True, capture_output=True, timeout=PATIENCE).stdout)


@contextmanager
def shelf(start: Start, folder: Path, **overrides: object) -> Iterator[Shelf]:
    """The model served with an operator's overrides, from its export to its clean end."""
    gate = Gate(folder / "gate")
    more = {
        "PYTHONPATH": install(folder / "site", DISTRIBUTION, _SOURCE),
        "GATE": str(gate.folder),
        "MERCATO_MODELS": json.dumps({MODEL: overrides.pop("model", {})}),
        **{f"MERCATO_{name.upper()}": json.dumps(value) for name, value in overrides.items()},
    }
    try:
        running = start(folder / "store", plugins=(DISTRIBUTION,), **more)
        with served(running) as wire:
            yield Shelf(running, wire, gate)
    finally:
        gate.close()


def codes(calls: Sequence[Any]) -> list[str]:
    """How each call has ended, waited for."""
    return [call.code().name for call in calls]
