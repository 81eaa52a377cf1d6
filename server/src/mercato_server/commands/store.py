"""`mercato store`: what the artifact store holds, and removing what has not been used for long."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.errors import StartupError
from mercato_server.store import Store
from mercato_server.store.inventory import Inventory, Stored, read
from mercato_server.store.pruning import Fate, OnProgress, Pruned, prune

DAY = 86_400.0

Row = dict[str, Any]

app = typer.Typer(
    help="Show what the artifact store holds, and remove what has not been used for long.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[Path | None, typer.Option("--store", help="Folder of the exported artifacts.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("list")
def list_objects(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """List the stored artifacts with size and last use, and what the store did not write."""
    found = _read(_store(store))
    rows = [_row(item) for item in found.objects]
    if json_output:
        print(json.dumps({"objects": rows, "strangers": found.strangers}, indent=2))
        return
    columns = ("model", "plugin", "digest", "size", "keys", "last used (UTC)", "in use")
    tables.show(columns, [[*_cells(row), "yes" if row["in_use"] else "no"] for row in rows])
    _name_strangers(found)


@app.command("prune")
def prune_objects(
    unused_for: Annotated[float, typer.Option(min=0, metavar="DAYS", help="Remove what was unused so long.")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be removed, and remove nothing.")] = False,
    store: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Remove artifacts that no server opened lately; what a running server has open stays."""
    root = _store(store)
    found = _read(root)
    with _bar() as bar:
        try:
            pruned = prune(Store(root), found, unused_for * DAY, dry_run=dry_run, on_progress=_drawn_on(bar))
        except StartupError as error:
            fail("store", error)
    rows = [{**_row(item.stored), "state": item.fate.value, "removed_keys": item.keys} for item in pruned]
    freed = sum(item.stored.nbytes or 0 for item in pruned if item.fate is Fate.REMOVED)
    if json_output:
        report = {"dry_run": dry_run, "objects": rows, "freed_bytes": freed, "strangers": found.strangers}
        print(json.dumps(report, indent=2))
    else:
        _show(rows, pruned, freed, found, dry_run)


def _store(given: Path | None) -> Path:
    try:
        return config.load(store=given).store
    except StartupError as error:
        fail("store", error, 2)


def _read(root: Path) -> Inventory:
    try:
        return read(root)
    except StartupError as error:
        fail("store", error)


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _drawn_on(bar: Progress) -> OnProgress:
    task = bar.add_task("objects")
    return lambda done, total: bar.update(task, completed=done, total=total)


def _row(item: Stored) -> Row:
    used = item.used
    return {
        "model": item.model,
        "plugin": item.plugin,
        "plugin_version": item.plugin_version,
        "digest": item.digest,
        "bytes": item.nbytes,
        "keys": len(item.keys),
        "last_used": None if used is None else datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds"),
        "in_use": item.in_use,
    }


def _cells(row: Row) -> list[str]:
    plugin = f"{row['plugin']} {row['plugin_version']}".strip()
    size = "missing" if row["bytes"] is None else decimal(row["bytes"])
    used = (row["last_used"] or "no key")[:16].replace("T", " ")
    return [row["model"], plugin, row["digest"][:12], size, str(row["keys"]), used]


def _show(rows: list[Row], pruned: list[Pruned], freed: int, found: Inventory, dry_run: bool) -> None:
    columns = ("model", "plugin", "digest", "size", "keys", "last used (UTC)", "state")
    tables.show(columns, [[*_cells(row), row["state"]] for row in rows])
    _name_strangers(found)
    fates = Counter(item.fate for item in pruned)
    would = "would remove" if dry_run else "removed"
    print(f"{would} {fates[Fate.REMOVED]} objects, {decimal(freed)}; {fates[Fate.IN_USE]} are in use and stay")


def _name_strangers(found: Inventory) -> None:
    for name, why in found.strangers.items():
        print(f"left alone: {name!r} {why}")
