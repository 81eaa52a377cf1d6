"""`mercato export`: fill the artifact store, so that servers start without building anything."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.commands.installed import MODELS_DIR_HELP, chosen, installed
from mercato_server.commands.progress import ExportProgress
from mercato_server.contract.plugin import OfferedModel, Refusal
from mercato_server.errors import StartupError
from mercato_server.export.launch import export_model
from mercato_server.export.request import ExportRequest
from mercato_server.export.tools import usable
from mercato_server.store import Store
from mercato_server.store.offered import key_of
from mercato_server.telemetry.logs import configure

Row = dict[str, str]


def command(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models; all without one.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the exported artifacts.")] = None,
    models_dir: Annotated[Path | None, typer.Option(help=MODELS_DIR_HELP)] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Export installed models to ONNX, each with its certificate; what the store holds is kept."""
    configure("WARNING")
    console = Console(stderr=True)
    try:
        settings = config.load(store=store, models_dir=models_dir)
        found = installed(settings)
        offered = chosen(found, models or [])
    except StartupError as error:
        fail("export", error, 2)
    with ExportProgress(console) as progress:
        rows = asyncio.run(_export_all(offered, Store(settings.store), progress))
    versions = (refusal for refusal in found.refused if refusal.model)
    rows += [_refused(refusal) for refusal in versions if not models or refusal.model in models]
    _show(rows, json_output)
    if any(row["state"] == "FAILED" for row in rows):
        raise typer.Exit(1)


async def _export_all(offered: Sequence[OfferedModel], store: Store, progress: ExportProgress) -> list[Row]:
    return [await _export_one(model, store, progress) for model in offered]


async def _export_one(offered: OfferedModel, store: Store, progress: ExportProgress) -> Row:
    """What became of one model. STORED: the artifact was there; EXPORTED: it was made now."""
    name, key = offered.spec.name, key_of(offered)
    row = {"model": name, "version": str(offered.spec.version), "digest": "", "certificate": "", "reason": ""}
    artifact, state = usable(store, key), "STORED"
    try:
        if artifact is None:
            request = ExportRequest.of(offered, store.root, key)
            digest = await export_model(request, lambda step: progress.update(name, step))
            artifact, state = store.open(digest), "EXPORTED"
    except StartupError as error:
        return {**row, "state": "FAILED", "reason": f"{error.reason}: {error}"}
    return {**row, "state": state, "digest": artifact.digest, "certificate": artifact.certificate.kind}


def _refused(refusal: Refusal) -> Row:
    """A version that cannot be exported because it cannot be offered."""
    row = {"model": refusal.model, "version": str(refusal.version or ""), "digest": "", "certificate": ""}
    return {**row, "state": "FAILED", "reason": f"{refusal.code}: {refusal.reason}"}


def _show(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ("model", "version", "state", "certificate", "digest", "reason")
    tables.show(columns, [[row[name][:12] if name == "digest" else row[name] for name in columns] for row in rows])
