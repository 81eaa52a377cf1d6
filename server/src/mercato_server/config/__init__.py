"""Settings: frozen, read once from flags, the environment and mercato.toml, in that order of precedence."""

import difflib
import os
import re
from collections.abc import Mapping
from json import JSONDecodeError
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError, TomlConfigSettingsSource

from mercato_server.config.addresses import UNIX, admin_address, is_admin_listen, is_loopback
from mercato_server.config.settings import OFF, Settings, default_store
from mercato_server.config.sources import (
    FILE_VARIABLE,
    MAX_FILE_BYTES,
    PLUGIN_PREFIX,
    PREFIX,
    check_file,
    file_name,
    plugin_variables,
    settings_file,
    variable,
)
from mercato_server.config.tables import ANY, AccessRule, ModelSettings
from mercato_server.errors import ConfigError

__all__ = [
    "ANY",
    "MAX_FILE_BYTES",
    "OFF",
    "UNIX",
    "AccessRule",
    "ModelSettings",
    "Settings",
    "admin_address",
    "default_store",
    "file_name",
    "given",
    "is_admin_listen",
    "is_loopback",
    "load",
    "plugin_variables",
]

# As pydantic-settings words it.
_FIELD = re.compile(r'for field "(\w+)"')
# Kubernetes tells every pod of the services beside it: of one called mercato, MERCATO_PORT=tcp://192.0.2.1:8500.
_SERVICE = re.compile(r"MERCATO_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|PORT=\w+://).*")


def given() -> list[tuple[str, Mapping[str, Any]]]:
    """What each place says, by its kind, the one that wins first; `load` must have accepted it."""
    environment, file = EnvSettingsSource(Settings), TomlConfigSettingsSource(Settings, settings_file())
    return [("environment", environment()), ("file", file())]


def load(**flags: Any) -> Settings:
    """The settings; `flags` that are None are not given. Raises ConfigError naming the setting or the variable."""
    given = {name: value for name, value in flags.items() if value is not None}
    _check_environment()
    check_file()
    try:
        return Settings(**given)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in details)
        raise ConfigError("; ".join(faults)) from None
    except (SettingsError, RecursionError) as error:
        raise ConfigError(_broken(error)) from None


def _broken(error: Exception) -> str:
    """What to say of a table in the environment that is no JSON; of one that nests too deeply no name is known."""
    field, cause = _FIELD.search(str(error)), error.__cause__
    name = field[1] if field else "the environment"
    why = f"{cause.msg} at character {cause.pos + 1}" if isinstance(cause, JSONDecodeError) else "it nests too deeply"
    return f"{name}: {variable(name) or 'a variable'} is no JSON: {why}; tables are written as JSON in the environment"


def _check_environment() -> None:
    """Refuse misspelt variables: what they were to protect would stay open."""
    settings = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    strays = [
        name
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(PREFIX)
        and not (name.upper() in settings or name == FILE_VARIABLE or name.startswith(PLUGIN_PREFIX))
        and not _SERVICE.fullmatch(f"{name}={value}")
    ]
    if strays:
        raise ConfigError("; ".join(f"{name} is no setting; {_nearest(name, settings)}" for name in strays))


def _nearest(name: str, settings: list[str]) -> str:
    close = difflib.get_close_matches(name.upper(), [*settings, FILE_VARIABLE], cutoff=0.8)
    return f"did you mean {' or '.join(close)}?" if close else "unset it"
