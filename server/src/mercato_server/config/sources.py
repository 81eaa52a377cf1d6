"""Where settings stand besides flags: the file and the environment, each looked at before it is read."""

import os
import stat
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name

from mercato_server.errors import ConfigError

DEFAULT_FILE = "mercato.toml"
MAX_FILE_BYTES = 1 << 20
PREFIX = "MERCATO_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
PLUGIN_PREFIX = f"{PREFIX}PLUGINS__"


def plugin_variables(distribution: str) -> dict[str, str]:
    """The environment's variables for one distribution, by the setting they set."""
    prefix = f"{PLUGIN_PREFIX}{canonicalize_name(distribution).replace('-', '_').upper()}__"
    return {name.removeprefix(prefix).lower(): name for name in os.environ if name.startswith(prefix)}


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
