"""Loading plugins one at a time, guarded: whatever one of them does, the others are served."""

import contextlib
import importlib
import logging
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, get_type_hints

import pluggy
from packaging.utils import canonicalize_name

from mercato_plugin import Model, ModelSpec, Secret, hooks
from mercato_plugin.frozen import schema_fingerprint
from mercato_plugin.settings import holds_secret
from mercato_server.contract.plugin import Discovery, OfferedModel, PluginInfo, Refusal
from mercato_server.contract.summary import summary
from mercato_server.errors import PluginRefused
from mercato_server.plugins import compat, registry
from mercato_server.plugins.barrier import barred_build_tools, barred_tool

log = logging.getLogger("mercato.plugins")

SettingsSource = Callable[[str], Mapping[str, Any]]
"""From a distribution name to the operator's settings for it."""


@dataclass(frozen=True)
class Policy:
    """Which distributions may be loaded: all but `deny`, or only those in `allow` when it is given."""

    allow: Collection[str] | None = None
    deny: Collection[str] = ()

    def check(self, info: PluginInfo) -> None:
        """Raise PluginRefused for a distribution that the operator does not want."""
        if info.distribution in {str(canonicalize_name(name)) for name in self.deny}:
            raise PluginRefused("DENIED", f"{info.distribution} is on the deny list (plugins_deny)")
        if self.allow is not None and info.distribution not in {str(canonicalize_name(name)) for name in self.allow}:
            raise PluginRefused("NOT_ALLOWED", f"{info.distribution} is not on the allow list (plugins_allow)")


class Named(Protocol):
    """A model of a plugin, in whatever form."""

    @property
    def plugin(self) -> PluginInfo:
        """Whose it is."""

    @property
    def spec(self) -> ModelSpec:
        """Its specification, which has the name."""


@dataclass(frozen=True)
class SpecFacts:
    """What `spec(ctx)` gets."""

    files: Path | None
    version: int | None
    settings: Any


def discover(policy: Policy, settings: SettingsSource) -> Discovery:
    """Load every installed plugin that the policy admits. Never raises for a plugin's fault."""
    admitted, refused = installed(policy)
    found = Discovery(refused=refused)
    for info in admitted:
        try:
            found.models.extend(load_one(info, settings))
        except PluginRefused as error:
            found.refused.append(Refusal(info, error.code, str(error)))
    clashing = clashes(found.models)
    found.refused.extend(clashing)
    found.refused.sort(key=lambda refusal: (refusal.plugin.distribution, refusal.plugin.entry_point))
    refused_for_names = {refusal.plugin for refusal in clashing}
    found.models = [offered for offered in found.models if offered.plugin not in refused_for_names]
    return found


def installed(policy: Policy, name: str | None = None) -> tuple[list[PluginInfo], list[Refusal]]:
    """Every installed plugin that the policy admits, and the others; what was installed a moment ago is seen too.

    With the `name` of a distribution its plugins alone.
    """
    importlib.invalidate_caches()
    admitted, refused = [], []
    for info in registry.installed(name):
        try:
            policy.check(info)
            admitted.append(info)
        except PluginRefused as error:
            refused.append(Refusal(info, error.code, str(error)))
    return admitted, refused


def load_one(info: PluginInfo, settings: SettingsSource) -> list[OfferedModel]:
    """Import one plugin and ask its hook for models. Raises PluginRefused with a reason code."""
    with _guarded(info, "IMPORT_FAILED", "cannot be loaded"):
        return _loaded(info, settings)


def clashes(offers: Iterable[Named]) -> list[Refusal]:
    """Two distributions with one model name are both refused, and so are names equal after '.' -> '_'."""
    owners: dict[str, list[Named]] = {}
    for offered in offers:
        owners.setdefault(offered.spec.name.replace(".", "_"), []).append(offered)
    refused: dict[PluginInfo, Refusal] = {}
    for group in (group for group in owners.values() if len(group) > 1):
        names = " and ".join(f"{o.spec.name!r} of {o.plugin.distribution} {o.plugin.version}" for o in group)
        for plugin in dict.fromkeys(offered.plugin for offered in group):
            refusal = Refusal(plugin, "NAME_CLASH", f"model names clash: {names}; {_way_out(group)}")
            refused.setdefault(plugin, refusal)
    return list(refused.values())


def _way_out(group: Sequence[Named]) -> str:
    distribution, *others = {offered.plugin.distribution for offered in group}
    return "uninstall or deny one" if others else f"{distribution} offers the name twice; rename one of its models"


def _loaded(info: PluginInfo, settings: SettingsSource) -> list[OfferedModel]:
    compat.check_requirement(info)
    with barred_build_tools():
        with _guarded(info, "IMPORT_FAILED", "cannot be imported"):
            module = importlib.import_module(info.module)
        models = _models(info, module)
        given = settings(info.distribution)
        _refuse_unknown(info, models, given)
        return [_offered(info, model, given) for model in models]


def _models(info: PluginInfo, module: ModuleType) -> list[Model]:
    manager = pluggy.PluginManager("mercato")
    manager.add_hookspecs(hooks)
    with _guarded(info, "HOOK_INVALID", "does not fit the hook mercato_models()"):
        manager.register(module, info.entry_point)
        manager.check_pending()
    if not manager.hook.mercato_models.get_hookimpls():
        raise PluginRefused("NO_HOOK", f"{info.distribution}: {info.module} has no @hookimpl def mercato_models()")
    with _guarded(info, "HOOK_FAILED", "mercato_models() failed"):
        models = [model for answer in manager.hook.mercato_models() for model in answer]
    if not models:
        raise PluginRefused("HOOK_FAILED", f"{info.distribution}: mercato_models() gave no models, expected a list")
    for model in models:
        if not isinstance(model, Model):
            raise PluginRefused(
                "HOOK_FAILED",
                f"{info.distribution}: mercato_models() gave {type(model).__name__}, expected mercato_plugin.Model",
            )
    return models


def _offered(info: PluginInfo, model: Model, given: Mapping[str, Any]) -> OfferedModel:
    compat.check_declared(info, type(model).__name__, model.api_version)
    if type(model).stream is not Model.stream:
        raise PluginRefused(
            "STREAM_UNSUPPORTED", f"{info.distribution}: {type(model).__name__} defines stream, which is not served yet"
        )
    settings = _filled(info, model, given)
    with _guarded(info, "SPEC_INVALID", f"has an invalid specification of {type(model).__name__}"):
        spec = model.spec(SpecFacts(None, None, settings)) if callable(model.spec) else model.spec
    if not isinstance(spec, ModelSpec):
        raise PluginRefused(
            "SPEC_INVALID", f"{info.distribution}: {type(model).__name__}.spec is {type(spec).__name__}, not ModelSpec"
        )
    with _guarded(info, "SPEC_INVALID", f"has an invalid specification of {spec.name}"):
        _ = spec.graphs, schema_fingerprint(spec)
    return OfferedModel(info, model, spec, settings, given)


def _refuse_unknown(info: PluginInfo, models: Collection[Model], given: Mapping[str, Any]) -> None:
    known = {item.name for model in models if is_dataclass(model.settings) for item in fields(model.settings)}
    if unknown := sorted(set(given) - known):
        raise _bad_settings(info, f"unknown settings {unknown}; known are {sorted(known)}")


def _filled(info: PluginInfo, model: Model, given: Mapping[str, Any]) -> Any:
    """The model's settings dataclass, from the operator's values for its distribution."""
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
    with _guarded(info, "SETTINGS_INVALID", f"has settings of {type(model).__name__} that cannot be filled"):
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
        with _guarded(info, "SETTINGS_INVALID", f"secret {name!r}: its file cannot be read"):
            return Path(value["file"]).read_text(encoding="utf-8").strip()
    raise PluginRefused(
        "SETTINGS_INVALID",
        f"{info.distribution}: secret {name!r} must come from the environment or be written as {{ file = '...' }}",
    )


@contextlib.contextmanager
def _guarded(info: PluginInfo, code: str, what: str) -> Iterator[None]:
    """Turn whatever the plugin raises, SystemExit included, into a refusal; the traceback goes to the log."""
    try:
        yield
    except PluginRefused:
        raise
    except BaseException as error:
        if _is_from_terminal(error):
            raise
        log.warning("plugin %s %s", info.distribution, what, exc_info=error, extra={"plugin": info.distribution})
        if tool := barred_tool(error):
            raise PluginRefused(
                "IMPORTS_BUILD_TOOLS",
                f"{info.distribution}: loading {info.module} imports {tool}, which must not enter a serving process; "
                "move the import into build or train, or make build an import string",
            ) from error
        raise PluginRefused(code, f"{info.distribution} {what}: {summary(error)}") from error


def _is_from_terminal(error: BaseException) -> bool:
    """Whether it is Ctrl-C: it arrives on the main thread, unless it is ignored. Any other one the plugin raised."""
    arrives = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and arrives and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
