"""`mercato plugins`: what is installed here, what it offers, and why something is refused."""

import json
from typing import Annotated, Any

import typer

from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.commands.installed import installed
from mercato_server.contract.plugin import Discovery
from mercato_server.errors import StartupError


def command(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """List installed plugins with their models, state and reason; no server is needed."""
    try:
        settings = config.load()
    except StartupError as error:
        fail("plugins", error, 2)
    rows = _rows(installed(settings))
    if json_output:
        print(json.dumps(rows, indent=2))
    else:
        tables.show(("plugin", "version", "state", "models", "reason"), map(_cells, rows))


def _rows(discovery: Discovery) -> list[dict[str, Any]]:
    offered: dict[tuple[str, str], list[str]] = {}
    for item in discovery.models:
        offered.setdefault((item.plugin.distribution, item.plugin.version), []).append(item.spec.name)
    loaded = [
        {"plugin": name, "version": version, "state": "LOADED", "models": models, "code": "", "reason": ""}
        for (name, version), models in offered.items()
    ]
    refused = [
        {
            "plugin": refusal.plugin.distribution,
            "version": refusal.plugin.version,
            "state": "REFUSED",
            "models": [],
            "code": refusal.code,
            "reason": refusal.reason,
        }
        for refusal in discovery.refused
    ]
    return [*loaded, *refused]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    reason = f"{row['code']}: {row['reason']}" if row["code"] else ""
    return row["plugin"], row["version"], row["state"], ", ".join(row["models"]), reason
