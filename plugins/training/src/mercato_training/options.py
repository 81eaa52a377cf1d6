"""A model's own options, `--set key=value`, and its settings: text to the fields of a dataclass."""

import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mercato_training.errors import TrainingError

Filled = TypeVar("Filled")

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def option(default: Any, *, doc: str, low: float | None = None, high: float | None = None) -> Any:
    """One field of an options dataclass, with inclusive bounds for numbers."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high})


def filled(kind: type[Filled], given: Mapping[str, Any], flag: str) -> Filled:
    """The dataclass with what was given as text or as values of TOML. Raises TrainingError naming `flag`."""
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(given.keys() - known.keys()):
        raise TrainingError(f"{flag}: there is no {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}")
    hints = get_type_hints(kind)
    values = {name: _value(f"{flag} {name}", hints[name], value) for name, value in given.items()}
    for name, value in values.items():
        _check_bounds(f"{flag} {name}", known[name].metadata, value)
    if missing := [name for name, item in known.items() if name not in values and _is_required(item)]:
        raise TrainingError(f"{flag}: {missing[0]!r} has no default; give it")
    return kind(**values)


def pairs(given: list[str], flag: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping. Raises TrainingError."""
    return _pairs(given, flag, "KEY=VALUE")


def renames(given: list[str]) -> dict[str, str]:
    """`THEIRS=OURS` texts of `--rename` as a mapping. Raises TrainingError."""
    found = _pairs(given, "--rename", "THEIRS=OURS")
    if empty := [theirs for theirs, ours in found.items() if not ours]:
        raise TrainingError(f"--rename: got '{empty[0]}=', expected THEIRS=OURS")
    return found


def plugin_settings(distribution: str, kind: type | None) -> Any:
    """A model's settings as its server would fill them: the environment first, then the settings file.

    Raises TrainingError.
    """
    if kind is None or not is_dataclass(kind):
        return None
    wanted = {item.name for item in fields(kind)}
    prefix = f"MERCATO_PLUGINS__{distribution.replace('-', '_').upper()}__"
    given = {name: value for name, value in _file_settings(distribution).items() if name in wanted}
    given |= {
        name.removeprefix(prefix).lower(): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and name.removeprefix(prefix).lower() in wanted
    }
    return filled(kind, given, f'[plugins."{distribution}"]')


def settings_file() -> Mapping[str, Any]:
    """What the server's settings file says; nothing where there is none. Raises TrainingError."""
    path = Path(os.environ.get("MERCATO_CONFIG") or "mercato.toml")
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path.name} is not TOML: {error}") from None


def _file_settings(distribution: str) -> Mapping[str, Any]:
    plugins = settings_file().get("plugins", {})
    table = plugins.get(distribution, {}) if isinstance(plugins, dict) else {}
    return table if isinstance(table, dict) else {}


def _pairs(given: list[str], flag: str, form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not key:
            raise TrainingError(f"{flag}: got {text!r}, expected {form}")
        if key in found:
            raise TrainingError(f"{flag}: {key!r} is given twice")
        found[key] = value
    return found


def _value(what: str, hint: Any, value: Any) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        rest = [choice for choice in choices if choice is not type(None)]
        return None if value in (None, "", "none") and len(rest) < len(choices) else _value(what, rest[0], value)
    if origin is Literal:
        if value not in choices:
            raise TrainingError(f"{what}: got {value!r}, expected one of {', '.join(map(str, choices))}")
        return value
    if origin is tuple:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if "" in parts:
            raise TrainingError(f"{what}: got {value!r}, expected names with commas between them")
        return tuple(_value(what, choices[0], part) for part in parts)
    if hint is bool:
        return _truth(what, value)
    try:
        return hint(value)
    except (TypeError, ValueError):
        raise TrainingError(f"{what}: got {value!r}, expected {hint.__name__}") from None


def _truth(what: str, value: Any) -> bool:
    found = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if found is None:
        raise TrainingError(f"{what}: got {value!r}, expected true or false")
    return found


def _check_bounds(what: str, metadata: Mapping[str, Any], value: Any) -> None:
    low, high = metadata.get("low"), metadata.get("high")
    if isinstance(value, int | float) and not (
        (low is None or value >= low) and (high is None or value <= high) and value == value
    ):
        expected = f"{'any' if low is None else low} to {'any' if high is None else high}"
        raise TrainingError(f"{what}: got {value}, expected {expected}")


def _is_required(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING
