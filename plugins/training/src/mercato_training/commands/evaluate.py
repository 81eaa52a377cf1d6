"""`mercato evaluate`: what trained models score on held-out rows when they are served, side by side."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mercato_training import plots
from mercato_training.commands import tables
from mercato_training.commands.progress import Bars
from mercato_training.commands.train import DataOption, EncodingOption, ModelsDirOption, RenameOption
from mercato_training.data import Data
from mercato_training.errors import writing
from mercato_training.hashing import read_salt
from mercato_training.judging import Judged, judge, targets
from mercato_training.options import renames

MB = 1e6
REPORT = "evaluation.json"


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL[:VERSION]...", help="The newest without VERSION.")],
    data: DataOption,
    models_dir: ModelsDirOption = Path("models"),
    out: Annotated[Path, typer.Option(help="Folder of the report and the plots.")] = Path("evaluation"),
    server: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ask this server; without it one is started for the time.")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="The data is a test set: use every row of it.")] = False,
    rename: RenameOption = None,
    encoding: EncodingOption = "utf-8",
    hash_users: Annotated[Path | None, typer.Option(metavar="SALT_FILE", help="As it was in training.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Serve trained models, score them on held-out rows, and compare quality, latency and size."""
    user_hash = read_salt(hash_users) if hash_users else None
    source = Data(data, renames(rename or []), encoding, user_hash, whole)
    with Bars(Console(stderr=True)) as bars:
        judged = judge(targets(models, models_dir), source, models_dir, server, bars)
    report = [document(one) for one in judged]
    with writing("--out"):
        out.mkdir(parents=True, exist_ok=True)
        (out / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        drawn = _draw(judged, out)
    if json_output:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _show(judged)
        print(f"wrote {out / REPORT} and {', '.join(path.name for path in drawn)}")


def document(judged: Judged) -> dict[str, Any]:
    """What one version scored, for machines."""
    confusion = judged.evaluation.confusion
    return {
        "model": judged.target.found.name,
        "version": judged.target.folder.version,
        "rows": judged.evaluation.rows,
        "metrics": dict(judged.evaluation.metrics),
        "confusion": confusion and {"labels": list(confusion.labels), "counts": confusion.counts.tolist()},
        "latency_p50_ms": judged.speed.p50_ms,
        "latency_p95_ms": judged.speed.p95_ms,
        "rows_per_second": judged.speed.rows_per_second,
        "file_bytes": judged.file_bytes,
        "memory_bytes": judged.memory_bytes,
    }


def main_metrics(judged: Judged) -> dict[str, float]:
    """The metrics of the whole, without those of single labels and of the baseline."""
    return {
        name: value
        for name, value in judged.evaluation.metrics.items()
        if not name.startswith("baseline_") and "." not in name
    }


def _show(judged: Sequence[Judged]) -> None:
    """Models stand side by side, one fact a row: their names are long, and terminals are 80 columns wide."""
    rows = [("held-out rows", *(str(one.evaluation.rows) for one in judged))]
    for name in dict.fromkeys(name for one in judged for name in main_metrics(one)):
        for shown, key in ((name, name), ("  baseline", f"baseline_{name}")):
            if any(key in one.evaluation.metrics for one in judged):
                rows.append((shown, *(_metric(one.evaluation.metrics, key) for one in judged)))
    costs = [_costs(one) for one in judged]
    rows += [(name, *(cost[name] for cost in costs)) for name in costs[0]]
    tables.show(("", *(one.target.name for one in judged)), rows)


def _metric(metrics: Any, name: str) -> str:
    return tables.number(metrics[name]) if name in metrics else "-"


def _costs(one: Judged) -> dict[str, str]:
    speed = one.speed
    return {
        "one row, median": f"{speed.p50_ms:.2f} ms",
        "one row, 95th": f"{speed.p95_ms:.2f} ms",
        "many rows": f"{speed.rows_per_second:.0f} rows/s",
        "files": f"{one.file_bytes / MB:.2f} MB",
        "memory": f"{one.memory_bytes / MB:.1f} MB",
    }


def _draw(judged: Sequence[Judged], out: Path) -> list[Path]:
    drawn = []
    for one in judged:
        path = out / f"{re.sub(r'[^a-z0-9]+', '-', one.target.name)}.png"
        if one.evaluation.confusion is not None:
            plots.confusion(one.evaluation.confusion, one.target.name, path)
            drawn.append(path)
        if one.evaluation.fit is not None:
            plots.fit(one.evaluation.fit, one.target.name, path)
            drawn.append(path)
    if len(judged) > 1:
        plots.bars({one.target.name: main_metrics(one) for one in judged}, out / "comparison.png")
        drawn.append(out / "comparison.png")
    return drawn
