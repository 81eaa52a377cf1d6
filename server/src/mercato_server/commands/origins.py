"""Every setting with its value and where that comes from; secrets stay hidden."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from packaging.utils import canonicalize_name

from mercato_plugin import Secret
from mercato_plugin.settings import holds_secret
from mercato_server import config
from mercato_server.contract.plugin import Discovery, OfferedModel

HIDDEN = "***"

ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Setting:
    """`name` as mercato.toml would have it; `origin` is default, file or environment; `source` names it."""

    name: str
    value: Any
    origin: str
    source: str


class Origins:
    """Where values come from. The settings must be those that stand in the environment and the file now."""

    def __init__(self, settings: config.Settings, discovery: Discovery) -> None:
        self._settings = settings
        self._discovery = discovery
        self._given = config.given()

    def all(self) -> list[Setting]:
        """The server's own settings, then those of models, then those of plugins."""
        return [*self._own(), *self._models(), *self._plugins()]

    def _own(self) -> Iterator[Setting]:
        values = self._settings.model_dump(mode="json", exclude={"models", "plugins"})
        for name, value in values.items():
            yield self._setting(name, value, name)

    def _models(self) -> Iterator[Setting]:
        for model, given in self._settings.models.items():
            start = f'models."{model}"'
            for label, version in given.labels.items():
                yield self._setting(f'{start}.labels."{label}"', version, "models", model, "labels", label)
            for name, value in self._settings.overrides(model).items():
                yield self._setting(f"{start}.{name}", value, "models", model, name)

    def _setting(self, name: str, value: Any, *path: str) -> Setting:
        origin = self._origin(*path)
        sources = {ENVIRONMENT: f"MERCATO_{path[0].upper()}", "file": config.file_name(), "default": ""}
        return Setting(name, value, origin, sources[origin])

    def _origin(self, *path: str) -> str:
        return next((kind for kind, values in self._given if _holds(values, path)), "default")

    def _plugins(self) -> Iterator[Setting]:
        declared: dict[str, dict[str, Any]] = {}
        for offered in self._discovery.models:
            declared.setdefault(offered.plugin.distribution, {}).update(_declared(offered))
        refused = (refusal.plugin.distribution for refusal in self._discovery.refused)
        written = [str(canonicalize_name(name)) for name in self._settings.plugins]
        for distribution in dict.fromkeys((*declared, *refused, *written)):
            values = declared.get(distribution, {})
            for name in dict.fromkeys((*values, *self._settings.plugin(distribution))):
                yield self._plugin_setting(distribution, name, values.get(name, HIDDEN))

    def _plugin_setting(self, distribution: str, name: str, value: Any) -> Setting:
        """What comes from the environment may be a secret, whatever it is declared as."""
        written = f'plugins."{distribution}".{name}'
        if variable := config.plugin_variables(distribution).get(name):
            return Setting(written, HIDDEN, ENVIRONMENT, variable)
        for spelled in reversed(self._settings.spellings(distribution)):
            if name in self._settings.plugins[spelled]:
                found = self._setting(written, value, "plugins", spelled, name)
                return found if found.origin == "file" else Setting(written, HIDDEN, found.origin, found.source)
        return Setting(written, value, "default", "")


def _declared(offered: OfferedModel) -> dict[str, Any]:
    """Settings of one model as they are in force, by name; secrets hidden."""
    if not is_dataclass(offered.settings):
        return {}
    hints = get_type_hints(type(offered.settings))
    values = {item.name: getattr(offered.settings, item.name) for item in fields(offered.settings)}
    return {name: HIDDEN if value and holds_secret(hints[name]) else _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _holds(values: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not (isinstance(values, Mapping) and name in values):
            return False
        values = values[name]
    return True
