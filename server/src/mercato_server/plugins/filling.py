"""A model's settings dataclass, filled from what the operator set for its distribution."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mercato_plugin import Model, Secret
from mercato_plugin.settings import holds_secret
from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import PluginRefused
from mercato_server.plugins.guard import guarded


def refuse_unknown(info: PluginInfo, models: Collection[Model], given: Mapping[str, Any]) -> None:
    """Refuse settings of a distribution that no model of it has. Raises PluginRefused."""
    known = {item.name for model in models if is_dataclass(model.settings) for item in fields(model.settings)}
    if unknown := sorted(set(given) - known):
        raise _bad_settings(info, f"unknown settings {unknown}; known are {sorted(known)}")


def filled(info: PluginInfo, model: Model, given: Mapping[str, Any]) -> Any:
    """The model's settings dataclass, from the operator's values for its distribution. Raises PluginRefused."""
    kind = model.settings
    if kind is None:
        return None
    # Takes tens of milliseconds to import, which a worker whose models have no settings does not pay for.
    from pydantic import TypeAdapter, ValidationError

    if not is_dataclass(kind):
        raise PluginRefused(
            "SETTINGS_INVALID", f"{info.distribution}: {type(model).__name__}.settings must be a frozen dataclass"
        )
    wanted = {item.name for item in fields(kind)}
    with guarded(info, "SETTINGS_INVALID", f"has settings of {type(model).__name__} that cannot be filled"):
        hints, adapter = get_type_hints(kind), TypeAdapter(kind)
    values = {name: _value(info, name, hints[name], value) for name, value in given.items() if name in wanted}
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise _bad_settings(info, faults) from None


def _bad_settings(info: PluginInfo, faults: str) -> PluginRefused:
    return PluginRefused("SETTINGS_INVALID", f'{info.distribution}: [plugins."{info.distribution}"] {faults}')


def _value(info: PluginInfo, name: str, hint: Any, value: Any) -> Any:
    """Secrets come from the environment (marked by the reader as Secret) or from a file, never from mercato.toml."""
    if not holds_secret(hint) or isinstance(value, Secret):
        return value
    if isinstance(value, Mapping) and set(value) == {"file"}:
        with guarded(info, "SETTINGS_INVALID", f"secret {name!r}: its file cannot be read"):
            return Path(value["file"]).read_text(encoding="utf-8").strip()
    raise PluginRefused(
        "SETTINGS_INVALID",
        f"{info.distribution}: secret {name!r} must come from the environment or be written as {{ file = '...' }}",
    )
