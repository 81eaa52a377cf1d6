"""`make bench-start`: seconds from process start to SERVING with a filled store, and where they go."""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench import frame, report, servers
from bench.report import Spread
from rich.table import Table

from mercato_client import Client

SERVE = "mercato_server.commands.serve"
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)")


@dataclass(frozen=True)
class Start:
    """One start of `mercato serve`: seconds from the creation of its process, and CPU seconds until SERVING."""

    listening: float
    serving: float
    cpu: float
    torch: bool


@dataclass(frozen=True)
class Figures:
    """All starts, the client's import, and the server's imports by top-level package in seconds of self time."""

    listening: Spread
    serving: Spread
    cpu: Spread
    torch_loaded: bool
    client_import: Spread
    server_import: Spread
    packages: dict[str, float]
    steps: dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="starts of the server")
    asked = report.arguments(parser)
    figures = measure(asked.store, asked.runs)
    report.show(_tables(figures), {"start": figures}, as_json=asked.json)


def measure(store: Path | None, runs: int) -> Figures:
    """Fresh processes throughout; one start beforehand fills the store."""
    _start(store)
    starts = [_start(store) for _ in frame.turns("starts", runs)]
    steps = [_steps(store) for _ in range(3)]
    return Figures(
        listening=Spread.of([start.listening for start in starts]),
        serving=Spread.of([start.serving for start in starts]),
        cpu=Spread.of([start.cpu for start in starts]),
        torch_loaded=any(start.torch for start in starts),
        client_import=_import_seconds("from mercato_client import Client", runs),
        server_import=_import_seconds(f"import {SERVE}", runs),
        packages=_import_breakdown(SERVE),
        steps={name: statistics.median(run[name] for run in steps) for name in steps[0]},
    )


def _start(store: Path | None) -> Start:
    with servers.mercato(store) as server:
        listening = time.perf_counter() - server.started
        with Client(server.address) as client:
            client.wait_until_ready(timeout=600)
            serving, cpu = time.perf_counter() - server.started, server.cpu_seconds()
            _check_answers(client)
        maps = [Path(f"/proc/{pid}/maps").read_text(encoding="utf-8") for pid in server.processes()]
        return Start(listening, serving, cpu, any("/torch/" in each for each in maps))


def _check_answers(client: Client) -> None:
    """Raise unless both models answer."""
    price = float(client.predict("pricing.linear", {"x": [[4.0]]})["y"][0, 0])
    shape = client.predict("semantic.encoder", {"text": ["red running shoes"]})["embedding"].shape
    if abs(price - 8) > 0.01 or shape != (1, 384):
        raise RuntimeError(f"got y = {price} and an embedding of shape {shape}, expected 8.0 and (1, 384)")


def _import_seconds(statement: str, runs: int) -> Spread:
    """Seconds that an import adds to a bare interpreter; both are started in turn."""
    pairs = [(_python(statement), _python("pass")) for _ in range(runs)]
    return Spread.of([loaded - bare for loaded, bare in pairs])


def _python(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def _import_breakdown(module: str) -> dict[str, float]:
    """Seconds of self time by top-level package, largest first; `-X importtime` itself makes imports slower."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    log = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
    totals: Counter[str] = Counter()
    for own, _, name in _IMPORT_TIME.findall(log):
        top = name.partition(".")[0]
        totals["standard library" if top in sys.stdlib_module_names else top] += int(own)
    return {name: micros / 1e6 for name, micros in totals.most_common(12)}


def _steps(store: Path | None) -> dict[str, float]:
    """The steps of a start, one after the other, in a process of their own."""
    command = [sys.executable, "-m", "bench.start_steps", *([] if store is None else [str(store)])]
    steps: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return steps


def _tables(figures: Figures) -> list[Table]:
    total = Table("figure", "seconds: median (low to high)", title=__doc__)
    total.add_row("process start to listening", figures.listening.show(2))
    total.add_row("process start to SERVING, both models", figures.serving.show(2))
    total.add_row("CPU time until SERVING", figures.cpu.show(2))
    total.add_row("from mercato_client import Client, beyond bare Python", figures.client_import.show(2))
    total.add_row(f"import {SERVE}, beyond bare Python", figures.server_import.show(2))
    total.add_row("torch in a serving process", "yes" if figures.torch_loaded else "no")
    return [
        total,
        _column("step of a start, one after the other", figures.steps),
        _column(f"package imported by {SERVE} (self time under -X importtime)", figures.packages),
    ]


def _column(name: str, values: dict[str, float]) -> Table:
    table = Table(name, "seconds")
    for key, seconds in values.items():
        table.add_row(key, f"{seconds:.3f}")
    return table


if __name__ == "__main__":
    main()
