"""Every setting with its bounds, default and description: frozen, and checked against each other."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from packaging.utils import canonicalize_name
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mercato_plugin import Secret
from mercato_server.config.addresses import MAX_PORT, UNIX, is_address, is_admin_listen, is_loopback
from mercato_server.config.sources import listed, listed_gates, plugin_variables, settings_file, variable
from mercato_server.config.tables import AccessRule, CallerSettings, ModelSettings, ProviderName
from mercato_server.contract import gates
from mercato_server.contract.gates import Gate
from mercato_server.errors import ConfigError
from mercato_server.store.folders import ServedFolders

OFF = "off"
_ADDRESSES = {
    "listen": f"host:port with a port from 0 to {MAX_PORT}",
    "metrics_listen": f"host:port with a port from 0 to {MAX_PORT}, or {OFF!r}",
    "probe_listen": f"host:port on a loopback address, or {OFF!r}",
    "admin_listen": f"{UNIX!r}, {UNIX}:PATH with an absolute path, host:port on a loopback address, or {OFF!r}",
}
_BRACKETS = "; an IPv6 host stands in brackets, as in [::1]:8500"


def default_store() -> Path:
    """`$XDG_CACHE_HOME/mercato`, else `~/.cache/mercato`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mercato"


def _listed(value: Any, info: ValidationInfo) -> Any:
    """A list as it is written in one string. Raises ValueError naming the variable that holds it."""
    name = str(info.field_name)
    try:
        return listed_gates(value) if name == "gate" else listed(value)
    except ValueError as error:
        raise ValueError(f"{variable(name)} {error}".lstrip()) from None


Names = TypeVar("Names", bound=tuple[str, ...] | None)
Listed = Annotated[Names, NoDecode, BeforeValidator(_listed)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting of the server. Environment variables are the names in upper case behind `MERCATO_`."""

    model_config = SettingsConfigDict(env_prefix="MERCATO_", frozen=True, extra="forbid")

    listen: str = Field("127.0.0.1:8500", description="Address and port of the data port.")
    store: Path = Field(default_factory=default_store, description="Folder of the exported artifacts.")
    models_dir: Path | None = Field(
        None, description="Folder of the trained models, `<model>/<version>/` below it; not given = none is served."
    )
    metrics_listen: str = Field("127.0.0.1:8501", description="Address and port of the metrics, or off.")
    probe_listen: str = Field(
        "127.0.0.1:8502",
        description="Loopback address and port of plain-text health, opened only when TLS is on; or off.",
    )
    admin_listen: str = Field(
        "unix",
        description="Where the server is administered: unix is a socket of the user's own, named for the data port; "
        "or unix:PATH, a loopback address and port, or off.",
    )
    tls_cert: Path | None = Field(None, description="PEM file with the server's certificate chain.")
    tls_key: Path | None = Field(None, description="PEM file with the key of `tls_cert`.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file with the authorities of callers; a caller without a certificate is refused."
    )
    insecure: bool = Field(False, description="Allow plain text on addresses that are not loopback.")
    access: tuple[AccessRule, ...] | None = Field(
        None, description="Who may call which method on which model; not given = everybody everything."
    )
    gate: Listed[tuple[str, ...]] = Field(
        (),
        description="What a version's metrics must reach before a label may mean it: `f1>=0.8` for every model, "
        "`reviews.intent: f1>=0.8` for one.",
    )
    provider: ProviderName = Field(
        "auto", description="Execution provider. Asking for one that does not come up is a refusal; auto falls back."
    )
    strict: bool = Field(False, description="Refuse to start when a plugin is refused or a model fails.")
    plugins_allow: Listed[tuple[str, ...] | None] = Field(
        None, description="Distributions that may be loaded; not given = all."
    )
    plugins_deny: Listed[tuple[str, ...]] = Field((), description="Distributions that are never loaded.")
    isolation: Literal["process", "inline"] = Field(
        "process",
        description="Where plugins run: each in a process of its own, or inline in threads of the server.",
    )
    import_timeout: Finite = Field(60.0, gt=0, description="Longest wait for the import of a plugin, in seconds.")
    load_timeout: Finite = Field(
        300.0, gt=0, description="Longest wait for the loading or the warm-up of a model, in seconds."
    )
    batch_timeout: Finite = Field(
        60.0, gt=0, description="Longest run of one batch, in seconds; its worker is ended then."
    )
    crash_budget: int = Field(
        5, ge=1, description="Ends of one plugin's worker within `crash_window` after which its models fail."
    )
    crash_window: Finite = Field(60.0, gt=0, description="Seconds in which the ends of a worker are counted.")
    worker_memory: int | None = Field(
        None,
        ge=256 * 1024 * 1024,
        description="Most bytes of private memory that one worker may take; not given = any.",
    )
    memory_limit: int | None = Field(
        None,
        ge=1024 * 1024,
        description="Most bytes that all models together may take; one that does not fit fails. Not given = any.",
    )
    threads: int = Field(0, ge=0, description="Cores that one run may use; 0 = the container's limit.")
    thread_pool: Literal["session", "worker"] = Field(
        "session",
        description="Who owns threads: each session, whose threads sleep between runs, or the worker for all its "
        "sessions, whose threads spin for a while after each run.",
    )
    max_message_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest message in either direction.")
    max_message_fields: int = Field(65_536, ge=64, description="Most protobuf fields in one message.")
    default_deadline: Finite = Field(30.0, gt=0, description="Seconds granted to a caller that sets no deadline.")
    max_requests: int = Field(1024, ge=1, description="Requests of one model in flight before callers are refused.")
    max_request_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Bytes of one model's requests in flight before callers are refused."
    )
    max_total_requests: int = Field(
        4096, ge=1, description="Requests of all models in flight before callers are refused."
    )
    max_total_request_bytes: int = Field(
        1024 * 1024 * 1024, ge=1024, description="Bytes of all models' requests in flight before callers are refused."
    )
    drain_seconds: Finite = Field(30.0, ge=0, description="Longest wait on SIGTERM for requests that were accepted.")
    connection_age: Finite = Field(
        300.0, ge=0, description="Seconds after which a connection is asked to reconnect; 0 = never."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING", description="Least level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Form of the log; auto is console on a terminal, else json."
    )
    tracing: Literal["off", "otlp"] = Field("off", description="Where spans are sent.")
    plugins: dict[str, dict[str, Any]] = Field({}, description="Settings of plugins, by distribution name.")
    models: dict[str, ModelSettings] = Field({}, description="Overrides of models, by model name.")
    callers: dict[str, CallerSettings] = Field({}, description="Shares and quotas of callers, by the caller's name.")

    @field_validator("listen", "metrics_listen", "probe_listen", "admin_listen")
    @classmethod
    def _check_address(cls, listen: str, info: ValidationInfo) -> str:
        is_off = listen == OFF and info.field_name != "listen"
        is_open = info.field_name == "probe_listen" and not is_loopback(listen)
        is_sound = is_admin_listen if info.field_name == "admin_listen" else is_address
        if not is_off and (is_open or not is_sound(listen)):
            raise ValueError(f"got {listen!r}, expected {_ADDRESSES[str(info.field_name)]}{_BRACKETS}")
        return listen

    @field_validator("access", mode="before")
    @classmethod
    def _check_access(cls, given: Any) -> Any:
        if isinstance(given, str):  # JSON that does not parse comes through as it is
            where = variable("access") or "the file"
            raise ValueError(f"got a text in {where}, expected a list of tables, written as JSON in the environment")
        return given

    @field_validator("gate")
    @classmethod
    def _check_gate(cls, gate: tuple[str, ...]) -> tuple[str, ...]:
        for text in gate:
            gates.parse(text)
        return gate

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())

    @property
    def is_secured(self) -> bool:
        """Whether the data port speaks TLS."""
        return self.tls_cert is not None

    def check_serving(self) -> None:
        """Refuse settings that a server cannot start with together. Raises ConfigError naming them."""
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ConfigError(f"{given} is set without {missing}; TLS needs both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError(
                "tls_client_ca is set without tls_cert and tls_key; callers show certificates in TLS only"
            )
        own = [name for name, overrides in self.models.items() if overrides.threads is not None]
        if self.thread_pool == "worker" and own:
            raise ConfigError(
                f"[models.{own[0]!r}] sets threads, but with thread_pool = 'worker' all sessions of a worker share "
                "one pool; unset one of them"
            )
        if self.isolation == "process" and sys.platform != "linux":
            raise ConfigError("isolation = 'process' needs Linux; use isolation = 'inline' (--isolation inline)")
        if self.access is not None and self.tls_client_ca is None:
            raise ConfigError("access is set without tls_client_ca; callers are known by their certificates only")
        if not self.is_secured:
            self._check_exposure("listen", "set tls_cert and tls_key")
        self._check_exposure("metrics_listen", "use a loopback address or 'off'")

    def _check_exposure(self, name: str, way_out: str) -> None:
        listen = getattr(self, name)
        if not (self.insecure or listen == OFF or is_loopback(listen)):
            raise ConfigError(
                f"{name} {listen} opens a port to the network in plain text; {way_out}, or allow it with "
                "insecure = true (--insecure)"
            )

    def overrides(self, model: str) -> dict[str, Any]:
        """What the operator set for one model, by the name of the setting; labels left out."""
        given = self.models.get(model)
        return given.model_dump(exclude={"labels"}, exclude_none=True) if given else {}

    def resources(self, model: str) -> dict[str, Any]:
        """Those of the overrides that say what the model runs on."""
        return {name: value for name, value in self.overrides(model).items() if name not in ("versions", "gate")}

    def served_folders(self) -> ServedFolders:
        """Which model folders are served. The path is made absolute: a plugin may change the process's folder."""
        root = None if self.models_dir is None else self.models_dir.absolute()
        named = {name: given.versions for name, given in self.models.items() if given.versions is not None}
        labelled = {name: tuple(given.labels.values()) for name, given in self.models.items() if given.labels}
        return ServedFolders(root, named, labelled)

    def gates(self) -> list[Gate]:
        """Those of every model, and each model's own."""
        own = [(name, text) for name, given in self.models.items() for text in given.gate or ()]
        return [*map(gates.parse, self.gate), *(replace(gates.parse(text), model=name) for name, text in own)]

    def plugin(self, distribution: str) -> Mapping[str, Any]:
        """What the operator set for one distribution; the environment wins over the file.

        `MERCATO_PLUGINS__MERCATO_SEMANTIC__ENCODER` is `encoder` of `mercato-semantic`. Values from the
        environment are marked as Secret, so that a secret setting takes them.
        """
        values: dict[str, Any] = {}
        for name in self.spellings(distribution):
            values |= self.plugins[name]
        found = plugin_variables(distribution)
        return values | {setting: Secret(os.environ[variable]) for setting, variable in found.items()}

    def spellings(self, distribution: str) -> list[str]:
        """The names under which `plugins` has this distribution; the last one wins."""
        wanted = canonicalize_name(distribution)
        return [name for name in self.plugins if canonicalize_name(name) == wanted]
