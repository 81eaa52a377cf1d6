"""`mercato config`: the settings in force with their origin, the limits in force, and the settings file's schema."""

import json
from typing import Annotated

import typer

from mercato_server import config
from mercato_server.commands import tables
from mercato_server.commands.failure import fail
from mercato_server.commands.installed import installed
from mercato_server.commands.limits import limits
from mercato_server.commands.origins import Origins, Setting
from mercato_server.commands.schema import settings_schema
from mercato_server.errors import StartupError

app = typer.Typer(
    help="Show the settings with their origin, the limits, or the settings file's schema.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("show")
def show(
    only_limits: Annotated[bool, typer.Option("--limits", help="Only the limits, fixed ones included.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show every setting with its value and origin, secrets hidden; no server is needed."""
    try:
        settings = config.load()
    except StartupError as error:
        fail("config", error, 2)
    if only_limits:
        _show_limits(settings, json_output)
    else:
        _show_settings(Origins(settings, installed(settings)).all(), json_output)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of mercato.toml, for editors."""
    print(json.dumps(settings_schema(), indent=2))


def _show_settings(found: list[Setting], as_json: bool) -> None:
    if as_json:
        print(json.dumps([vars(item) for item in found], indent=2))
        return
    rows = [(item.name, json.dumps(item.value), f"{item.origin} {item.source}".strip()) for item in found]
    tables.show(("setting", "value", "origin"), rows)


def _show_limits(settings: config.Settings, as_json: bool) -> None:
    found = limits(settings)
    if as_json:
        print(json.dumps([vars(item) for item in found], indent=2))
        return
    rows = [(item.name, f"{item.value} {item.unit}", item.beyond, item.setting or "fixed") for item in found]
    tables.show(("limit", "value", "beyond it", "setting"), rows)
