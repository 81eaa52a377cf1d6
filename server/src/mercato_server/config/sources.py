"""Where settings stand besides flags: the file and the environment, each looked at before it is read."""

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from mercato_server.errors import ConfigError

DEFAULT_FILE = "mercato.toml"
MAX_FILE_BYTES = 1 << 20
PREFIX = "MERCATO_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
PLUGIN_PREFIX = f"{PREFIX}PLUGINS__"

_COMMA = re.compile(r",")
# In f1>=0,8 the comma is a wrong point: split there, the half that is told would not be what was written.
_COMMA_OF_GATES = re.compile(r",(?!\s*[0-9]+\s*(?:,|$))")


def plugin_variables(distribution: str) -> dict[str, str]:
    """The environment's variables for one distribution, by the setting they set."""
    prefix = f"{PLUGIN_PREFIX}{canonicalize_name(distribution).replace('-', '_').upper()}__"
    return {name.removeprefix(prefix).lower(): name for name in os.environ if name.startswith(prefix)}


def listed(value: Any, comma: re.Pattern[str] = _COMMA) -> Any:
    """A list as the environment writes it: JSON, or items with commas between them. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _parsed(value)
    return [item for part in comma.split(value) if (item := part.strip())]


def listed_gates(value: Any) -> Any:
    """The same of gates. Raises ValueError."""
    return listed(value, _COMMA_OF_GATES)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        why = f"{error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError):
        why = "it nests too deeply, or a number is too long"
    raise ValueError(f"begins with [ and is no JSON: {why}; write a JSON list, or items with commas between them")


def variable(setting: str) -> str:
    """The environment's variable of a setting as it is spelt there, "" where there is none."""
    return next((name for name in os.environ if name.upper() == f"{PREFIX}{setting.upper()}"), "")


def file_name() -> str:
    """Name of the settings file, its folder left out."""
    return settings_file().name


def settings_file() -> Path:
    """Path of the settings file, which may not exist."""
    return Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)


def check_file() -> None:
    """Give a broken or missing settings file a clear word."""
    path = settings_file()
    try:
        text = _content(path)
        if text.startswith("\ufeff"):
            raise ConfigError(f"{path.name} begins with a byte order mark; save it as UTF-8 without one")
        tomllib.loads(text)
    except FileNotFoundError:
        if os.environ.get(FILE_VARIABLE):
            raise ConfigError("the file that MERCATO_CONFIG names does not exist") from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}; expected a TOML file") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from None


def _content(path: Path) -> str:
    """The text of a regular file, or of one that a link leads to; a pipe is not waited for."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"{path.name} is not a regular file; expected a TOML file")
        if facts.st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path.name} has {facts.st_size} bytes, expected at most {MAX_FILE_BYTES}")
        return file.read(MAX_FILE_BYTES).decode()
