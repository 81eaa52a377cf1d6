"""Settings: frozen, read once from flags, the environment and mercato.toml, in that order of precedence."""

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from packaging.utils import canonicalize_name
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from mercato_plugin import Secret
from mercato_server.errors import ConfigError

DEFAULT_FILE = "mercato.toml"
MAX_PORT = 65_535
PLUGIN_PREFIX = "MERCATO_PLUGINS__"


def default_store() -> Path:
    """`$XDG_CACHE_HOME/mercato`, else `~/.cache/mercato`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mercato"


def _listed(value: Any) -> Any:
    """A list as the environment writes it: JSON, or names with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [name for part in value.split(",") if (name := part.strip())]


Names = TypeVar("Names", bound=tuple[str, ...] | None)
Listed = Annotated[Names, NoDecode, BeforeValidator(_listed)]


class ModelSettings(BaseModel):
    """Overrides of one model: `[models."pricing.linear"]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[str, int] = Field({}, description="Movable names for versions, such as stable = 1.")


class Settings(BaseSettings):
    """Every setting of the server. Environment variables are the names in upper case behind `MERCATO_`."""

    model_config = SettingsConfigDict(env_prefix="MERCATO_", frozen=True, extra="forbid")

    listen: str = Field("127.0.0.1:8500", description="Address and port of the data port.")
    store: Path = Field(default_factory=default_store, description="Folder of the exported artifacts.")
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="Execution provider. Asking for one that does not come up is a refusal; auto falls back."
    )
    strict: bool = Field(False, description="Refuse to start when a plugin is refused or a model fails.")
    plugins_allow: Listed[tuple[str, ...] | None] = Field(
        None, description="Distributions that may be loaded; not given = all."
    )
    plugins_deny: Listed[tuple[str, ...]] = Field((), description="Distributions that are never loaded.")
    threads: int = Field(0, ge=0, description="Cores that one run may use; 0 = the container's limit.")
    max_message_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest message in either direction.")
    max_message_fields: int = Field(65_536, ge=64, description="Most protobuf fields in one message.")
    default_deadline: float = Field(30.0, gt=0, description="Seconds granted to a caller that sets no deadline.")
    max_requests: int = Field(1024, ge=1, description="Requests of one model in flight before callers are refused.")
    max_request_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Bytes of one model's requests in flight before callers are refused."
    )
    drain_seconds: float = Field(30.0, ge=0, description="Longest wait on SIGTERM for requests that were accepted.")
    plugins: dict[str, dict[str, Any]] = Field({}, description="Settings of plugins, by distribution name.")
    models: dict[str, ModelSettings] = Field({}, description="Overrides of models, by model name.")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str) -> str:
        host, colon, port = listen.rpartition(":")
        # gRPC takes a port beyond 65535 modulo 65536, and no port at all as 443.
        if not (host and colon and port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
            raise ValueError(f"got {listen!r}, expected host:port with a port from 0 to {MAX_PORT}")
        return listen

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags first, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _file())

    @property
    def is_loopback(self) -> bool:
        """Whether the data port is open to this machine alone."""
        host = self.listen.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def plugin(self, distribution: str) -> Mapping[str, Any]:
        """What the operator set for one distribution; the environment wins over the file.

        `MERCATO_PLUGINS__MERCATO_SEMANTIC__ENCODER` is `encoder` of `mercato-semantic`. Values from the
        environment are marked as Secret, so that a secret setting takes them.
        """
        wanted = str(canonicalize_name(distribution))
        prefix = f"{PLUGIN_PREFIX}{wanted.replace('-', '_').upper()}__"
        values: dict[str, Any] = {}
        for name, given in self.plugins.items():
            if canonicalize_name(name) == wanted:
                values |= given
        found = ((name, value) for name, value in os.environ.items() if name.startswith(prefix))
        return values | {name.removeprefix(prefix).lower(): Secret(value) for name, value in found}


def load(**flags: Any) -> Settings:
    """The settings; `flags` that are None are not given. Raises ConfigError naming the setting."""
    given = {name: value for name, value in flags.items() if value is not None}
    _check_file()
    try:
        return Settings(**given)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in details)
        raise ConfigError("; ".join(faults)) from None
    except SettingsError as error:
        raise ConfigError(f"{error}: tables are written as JSON in the environment") from None


def _file() -> Path:
    return Path(os.environ.get("MERCATO_CONFIG") or DEFAULT_FILE)


def _check_file() -> None:
    """Give a broken or missing settings file a clear word."""
    path = _file()
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get("MERCATO_CONFIG"):
            raise ConfigError("the file that MERCATO_CONFIG names does not exist") from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}; expected a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from None
