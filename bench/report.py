"""What every benchmark prints: its figures with the machine they were measured on, as tables or as one JSON object."""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("mercato-server", "grpcio", "protobuf", "uvloop", "numpy", "onnxruntime-gpu", "tokenizers")


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int) -> str:
        """`median (low to high)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The parser's own arguments, and those that all benchmarks share."""
    parser.add_argument("--store", type=Path, help="artifact store; by default the one that `make demo` fills")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of tables")
    return parser.parse_args()


def progress_console() -> Console:
    """Where progress is drawn: standard error, so that `--json` stays clean."""
    return Console(stderr=True)


def machine() -> dict[str, Any]:
    """Processor, cores, load average, Python and the versions that matter."""
    names = (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    return {
        "processor": f"{platform.machine()} {next(names, '')}".strip(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def show(tables: Sequence[Table], figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the figures to standard output."""
    here = machine()
    if as_json:
        print(json.dumps({**figures, "machine": here}, indent=1, default=vars))
        return
    console = Console()
    for table in tables:
        console.print(table)
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    console.print(
        f"{here['processor']}, {here['cores']} cores, load average {here['load_average']}; "
        f"Python {here['python']}; {versions}",
        highlight=False,
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
