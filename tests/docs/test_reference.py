"""Shows that the reference has every setting, code, public name and command, and nothing that does not exist."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from tests.docs.pages import ROOT, read, sections

import mercato_plugin
import mercato_training
from mercato_client.cli.app import app
from mercato_server import errors
from mercato_server.commands import serve
from mercato_server.commands.limits import limits
from mercato_server.commands.schema import settings_schema
from mercato_server.config import Settings
from mercato_server.config.tables import CallerSettings, ModelSettings
from mercato_server.rpc.status import CODES, MAX_VIOLATIONS

CODE = re.compile(r"[A-Z]+(_[A-Z]+)*")
REFERENCE = "docs/reference/"
SETTINGS = Settings.model_fields
FLAGS = {item.name for item in inspect.signature(serve.command).parameters.values()} & set(SETTINGS)


def subclasses(root: type[Any]) -> Iterator[type[Any]]:
    """Yield every class below `root`."""
    for child in root.__subclasses__():
        yield child
        yield from subclasses(child)


def codes(page: str) -> set[str]:
    """The headings of a page that are codes."""
    return {heading for heading in sections(read(REFERENCE + page)) if CODE.fullmatch(heading)}


def default(name: str) -> str:
    """A setting's default as the documents write it."""
    return "~/.cache/mercato" if name == "store" else json.dumps(SETTINGS[name].default).strip('"')


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_its_heading_with_meaning_default_environment_and_flag(name: str) -> None:
    section = sections(read(REFERENCE + "settings.md"))[name]
    assert str(SETTINGS[name].description) in section
    written = re.sub('`"(.*)"`', r"`\1`", section)
    assert f"`{default(name)}`" in written.split("- Environment")[0]
    assert f"- Environment: `MERCATO_{name.upper()}`" in section
    assert (f"- Flag: `mercato serve --{name.replace('_', '-')}`" in section) == (name in FLAGS)


def test_there_are_no_other_settings() -> None:
    other = ["Settings", "In an editor", "Settings of plugins"]
    assert list(sections(read(REFERENCE + "settings.md"))) == [*other, *SETTINGS]


@pytest.mark.parametrize(("name", "kind"), [("models", ModelSettings), ("callers", CallerSettings)])
def test_a_table_of_settings_has_a_row_for_each_entry(name: str, kind: type[BaseModel]) -> None:
    section = sections(read(REFERENCE + "settings.md"))[name]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(kind.model_fields)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readme_lists_every_setting_with_its_default(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", read(page), re.MULTILINE)
    assert rows == [(name, default(name)) for name in SETTINGS]


def written_codes(module: str) -> set[str]:
    """The codes that stand in the source of a module of the server."""
    tree = ast.parse((ROOT / f"server/src/mercato_server/{module}.py").read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if CODE.fullmatch(text)}


def test_every_refusal_has_its_heading() -> None:
    of_imports = {code for code in written_codes("runtime/process") if code.startswith("IMPORT_")}
    of_plugins = (written_codes(f"plugins/{module}") for module in ("host", "offering", "filling", "compat", "guard"))
    assert codes("refusals.md") == set().union(*of_plugins) | of_imports


def test_every_reason_has_its_heading() -> None:
    reasons = {kind.reason for kind in subclasses(errors.MercatoError)}
    assert codes("statuses.md") == reasons


def test_every_reason_of_a_call_stands_with_its_grpc_code() -> None:
    page = read(REFERENCE + "statuses.md")
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", page, re.MULTILINE))
    # LoadRefused has no reason of its own: it carries that of the failure.
    assert rows == {kind.reason: code.name for kind, code in CODES.items() if "reason" in vars(kind)}
    assert f"at most {MAX_VIOLATIONS}, such as" in sections(page)["INVALID_REQUEST"]


def members(kind: Any) -> set[str]:
    """What an author may use of a public class: fields, methods and properties of its own."""
    fields = {item.name for item in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    own = set(vars(kind)) | set(getattr(kind, "__annotations__", {}))
    inherited = {
        item.name for base in kind.__mro__[1:] if dataclasses.is_dataclass(base) for item in dataclasses.fields(base)
    }
    hidden = {"kind", "row_axes", "dtype_name", "graphs"} if issubclass(kind, INTERNAL) else set()
    return {name for name in (fields | own) - inherited - hidden if not name.startswith("_")}


# What the server reads of these classes, and an author never needs.
INTERNAL = (mercato_plugin.Field, mercato_plugin.Parameter, mercato_plugin.ModelSpec)


@pytest.mark.parametrize("name", mercato_plugin.__all__)
def test_a_public_name_of_the_interface_has_its_heading_and_members(name: str) -> None:
    section = sections(read(REFERENCE + "plugin-interface.md"))[name]
    public = getattr(mercato_plugin, name)
    wanted = members(public) if inspect.isclass(public) and not issubclass(public, str) else set()
    missing = {member for member in wanted if not re.search(rf"`{member}\b", section)}
    assert missing == set()


@pytest.mark.parametrize("name", mercato_training.__all__)
def test_a_public_name_of_training_has_its_heading_and_members(name: str) -> None:
    section = sections(read(REFERENCE + "training.md"))[name]
    public = getattr(mercato_training, name)
    wanted = members(public) if inspect.isclass(public) and not issubclass(public, Exception) else set()
    missing = {member for member in wanted if not re.search(rf"`{member}\b", section)}
    assert missing == set()


def commands() -> dict[str, Any]:
    """Every subcommand of `mercato` as the command line sees it."""
    own = {str(info.name or info.callback.__name__): info.callback for info in app.registered_commands if info.callback}
    added = {entry.name: entry.load() for entry in entry_points(group="mercato.commands")}
    return dict(item for name, loaded in (own | added).items() for item in parsed(name, loaded))


def parsed(name: str, loaded: Any) -> Iterator[tuple[str, Any]]:
    """One function as a command, or every command of a group with the group's name before its own."""
    if isinstance(loaded, typer.Typer):
        group: Any = typer.main.get_command(loaded)
        for inner, command in group.commands.items():
            yield f"{name} {inner}", command
        return
    single = typer.Typer(add_completion=False)
    single.command()(loaded)
    yield name, typer.main.get_command(single)


def test_every_command_has_its_heading_and_its_options() -> None:
    written = sections(read(REFERENCE + "commands.md"))
    found = commands()
    assert {heading.removeprefix("mercato ") for heading in written if heading.startswith("mercato ")} == set(found)
    for name, command in found.items():
        options = {option for item in command.params for option in item.opts if option.startswith("--")}
        listed = set(re.findall(r"^\| `(--[\w-]+)` \|", written[f"mercato {name}"], re.MULTILINE))
        assert listed == options - {"--help"}, name


def test_every_limit_has_its_heading_with_value_and_outcome() -> None:
    written = sections(read(REFERENCE + "limits.md"))
    found = limits(Settings.model_construct())
    kinds = ("Limits", "Calls", "Streams", "Requests", "Errors", "Plugins", "Workers", "Files")
    assert [heading for heading in written if heading not in kinds] == [limit.name for limit in found]
    for limit in found:
        section = written[limit.name]
        assert f"- Value: {f'{limit.value} {limit.unit}'.strip()}\n" in section, limit.name
        assert f"- Beyond it: {limit.beyond}\n" in section.replace("`", ""), limit.name
        assert f"- Set by: {limit.setting or 'nothing'}\n" in re.sub(r"\[`(\w+)`\]\([^)]*\)|`", r"\1", section), (
            limit.name
        )


def test_the_schema_of_the_settings_file_is_fresh() -> None:
    written = json.loads(read(REFERENCE + "mercato.schema.json"))
    assert written == settings_schema(), "write it anew: mercato config schema > docs/reference/mercato.schema.json"
