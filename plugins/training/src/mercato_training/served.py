"""A server of its own for evaluation: what is judged is what will be served, artifact, worker and wire included."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mercato_client import Client
from mercato_training.context import Quiet, Report
from mercato_training.errors import TrainingError
from mercato_training.options import settings_file
from mercato_training.table import Array

TIMEOUT = 60.0
"""Seconds that one request of an evaluation may take."""

LONE_CALLS = 200
"""Requests of one row that are timed, one after the other."""

END_SECONDS = 60.0

_KEPT = ("store", "provider", "threads", "isolation", "plugins")
_KEPT_OF_MODEL = ("provider", "threads", "batch_rows", "batch_cost")


@dataclass(frozen=True)
class Speed:
    """What callers wait for: milliseconds of requests of one row, and rows per second of requests that are full."""

    p50_ms: float
    p95_ms: float
    rows_per_second: float


@dataclass
class Served:
    """One version on a server. `predict` answers any number of rows, in requests as large as the model takes."""

    client: Client
    model: str
    version: int
    rows_per_request: int
    memory_bytes: int
    report: Report = field(default_factory=Quiet)
    asked: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0
    seconds: float = 0.0

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs for rows of inputs. Raises mercato_client.MercatoError."""
        rows = len(next(iter(inputs.values())))
        start = time.perf_counter()
        answers = [self._asked(inputs, first, rows) for first in range(0, rows, self.rows_per_request)]
        self.seconds += time.perf_counter() - start
        self.rows += rows
        self.asked = inputs
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def speed(self) -> Speed:
        """Times of the rows that were asked for before."""
        rows = len(next(iter(self.asked.values()), ()))
        if not rows:
            raise TrainingError(f"model {self.model!r}: evaluate asked for no prediction, so nothing can be timed")
        times = [self._lone(number % rows) for number in range(LONE_CALLS)]
        p50, p95 = (float(np.percentile(times, share) * 1e3) for share in (50, 95))
        return Speed(p50, p95, self.rows / self.seconds)

    def _asked(self, inputs: Mapping[str, Any], first: int, rows: int) -> Mapping[str, Array]:
        last = min(first + self.rows_per_request, rows)
        part = {name: values[first:last] for name, values in inputs.items()}
        answer = self.client.predict(self.model, part, version=self.version)
        self.report.step(f"{self.model} {self.version}", last, rows)
        return answer

    def _lone(self, row: int) -> float:
        start = time.perf_counter()
        one = {name: values[row : row + 1] for name, values in self.asked.items()}
        self.client.predict(self.model, one, version=self.version)
        return time.perf_counter() - start


@contextmanager
def server(models_dir: Path, versions: Mapping[str, Sequence[int]], distributions: Sequence[str]) -> Iterator[Client]:
    """A server with these versions on a free loopback port, ended afterwards. Raises TrainingError."""
    if find_spec("mercato_server") is None:
        raise TrainingError(
            "evaluating needs a server: install 'mercato-server[export]' here, or name a running one with --server"
        )
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "off", "--admin-listen", "off", "--probe-listen", "off")
    command = [sys.executable, "-m", "mercato_server", "--json", *ports]
    with tempfile.NamedTemporaryFile(suffix=".toml") as empty:
        env = {**environment(models_dir, versions, distributions), "MERCATO_CONFIG": empty.name}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:  # noqa: S603  (our own)
            try:
                with Client(f"127.0.0.1:{_ready_port(process)}", timeout=TIMEOUT) as client:
                    yield client
            finally:
                _end(process)


def environment(
    models_dir: Path, versions: Mapping[str, Sequence[int]], distributions: Sequence[str]
) -> dict[str, str]:
    """The user's own environment, but of the server's settings only what decides how a model is built and run."""
    settings = settings_file()
    kept = {f"MERCATO_{name.upper()}": str(settings[name]) for name in _KEPT if name in settings}
    given = {name: value for name, value in os.environ.items() if not name.startswith("MERCATO_") or _is_kept(name)}
    return {
        **kept,
        "MERCATO_PLUGINS": json.dumps(settings.get("plugins", {})),
        **given,
        "MERCATO_MODELS_DIR": str(models_dir.resolve()),
        "MERCATO_MODELS": json.dumps({name: _kept_of(name) | {"versions": list(n)} for name, n in versions.items()}),
        "MERCATO_PLUGINS_ALLOW": json.dumps(list(distributions)),
    }


def served(client: Client, model: str, version: int, report: Report) -> Served:
    """One version that a server has. Raises TrainingError for one that does not serve, with the reason."""
    found = client.model(model).choose(version)
    if found is None or found.state != "AVAILABLE":
        why = "it has no such version" if found is None else f"it is {found.state}: {found.reason}"
        raise TrainingError(f"model {model!r} version {version} does not serve: {why}")
    return Served(client, model, version, found.max_rows, found.memory_bytes, report)


def _kept_of(model: str) -> dict[str, Any]:
    """What the user's settings say of how this model is run; nothing where they are none: its server says why."""
    given = os.environ.get("MERCATO_MODELS")
    try:
        own = (json.loads(given) if given else settings_file().get("models", {})).get(model, {})
        return {name: own[name] for name in _KEPT_OF_MODEL if name in own}
    except (ValueError, AttributeError, TypeError):
        return {}


def _is_kept(variable: str) -> bool:
    return variable.startswith("MERCATO_PLUGINS__") or variable.removeprefix("MERCATO_").lower() in _KEPT


def _ready_port(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    port = 0
    for line in process.stdout:
        event = _event(line)
        port = event.get("port", port)
        if event.get("event") == "ready":
            return int(port)
    raise TrainingError(f"the server of the evaluation ended with exit code {process.wait()} before it served")


def _event(line: str) -> dict[str, Any]:
    """One line of the server; what a plugin prints there is no event."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
