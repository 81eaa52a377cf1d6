"""`mercato plugins`: what is installed here, what it offers, and why something is refused."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mercato_server import config
from mercato_server.contract.plugin import Discovery
from mercato_server.errors import StartupError
from mercato_server.plugins.host import Policy, discover


def command(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """List installed plugins with their models, state and reason; no server is needed."""
    try:
        settings = config.load()
    except StartupError as error:
        Console(stderr=True).print(f"[bold red]mercato plugins:[/] {error}", highlight=False)
        raise typer.Exit(2) from None
    rows = _rows(discover(Policy(settings.plugins_allow, settings.plugins_deny), settings.plugin))
    if json_output:
        print(json.dumps(rows, indent=2))
    else:
        Console().print(_table(rows))


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


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("plugin", "version", "state", "models", "reason")
    for row in rows:
        reason = f"{row['code']}: {row['reason']}" if row["code"] else ""
        table.add_row(row["plugin"], row["version"], row["state"], ", ".join(row["models"]), reason)
    return table
