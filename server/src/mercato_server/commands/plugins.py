"""`mercato plugins`: what is installed here, what it offers, what needs training, and why something is refused."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.commands.installed import MODELS_DIR_HELP, installed
from mercato_server.contract.plugin import Discovery, PluginInfo, Refusal
from mercato_server.errors import StartupError

Row = dict[str, Any]


def command(
    models_dir: Annotated[Path | None, typer.Option(help=MODELS_DIR_HELP)] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """List installed plugins with their models, state and reason; no server is needed."""
    try:
        settings = config.load(models_dir=models_dir)
    except StartupError as error:
        fail("plugins", error, 2)
    rows = _rows(installed(settings))
    if json_output:
        print(json.dumps(rows, indent=2))
    else:
        tables.show(("plugin", "version", "state", "models", "reason"), map(_cells, rows))


def _rows(discovery: Discovery) -> list[Row]:
    loaded: dict[tuple[str, str], Row] = {}
    for offered in discovery.models:
        row = loaded.setdefault(_named(offered.plugin), _loaded(offered.plugin))
        row["models"].setdefault(offered.spec.name, []).append(offered.spec.version)
    for untrained in discovery.untrained:
        row = loaded.setdefault(_named(untrained.plugin), _loaded(untrained.plugin))
        row["untrained"].append(untrained.model)
        told = f"{untrained.model}: untrained; {untrained.way_out}"
        row["reason"] = "\n".join(filter(None, (row["reason"], told)))
    rows = [{**row, "models": list(row["models"]), "versions": row["models"]} for row in loaded.values()]
    return [*rows, *map(_refused, discovery.refused)]


def _named(plugin: PluginInfo) -> tuple[str, str]:
    return plugin.distribution, plugin.version


def _loaded(plugin: PluginInfo) -> Row:
    state = {"state": "LOADED", "models": {}, "untrained": [], "code": "", "reason": ""}
    return {"plugin": plugin.distribution, "version": plugin.version, **state}


def _refused(refusal: Refusal) -> Row:
    """Of a plugin, or of one model or version of it."""
    plugin, model = refusal.plugin, refusal.model
    versions = {model: [refusal.version] if refusal.version else []} if model else {}
    state = {"state": "REFUSED", "models": [], "untrained": [], "code": refusal.code, "reason": refusal.reason}
    return {"plugin": plugin.distribution, "version": plugin.version, **state, "versions": versions}


def _cells(row: Row) -> tuple[str, ...]:
    models = [f"{model} {', '.join(map(str, numbers))}".strip() for model, numbers in row["versions"].items()]
    reason = f"{row['code']}: {row['reason']}" if row["code"] else row["reason"]
    return row["plugin"], row["version"], row["state"], ", ".join([*models, *row["untrained"]]), reason
