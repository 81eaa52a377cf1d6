"""Loading plugins one at a time, guarded: whatever one of them does, the others are served."""

import importlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import pluggy
from packaging.utils import canonicalize_name

from mercato_plugin import Model, ModelSpec, hooks
from mercato_server.contract.plugin import Discovery, Folders, PluginInfo, Refusal
from mercato_server.errors import PluginRefused
from mercato_server.plugins import compat, registry
from mercato_server.plugins.barrier import barred_build_tools
from mercato_server.plugins.filling import refuse_unknown
from mercato_server.plugins.guard import guarded
from mercato_server.plugins.offering import Offering

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


def no_folders(model: str) -> None:
    """The `Folders` of a server that has none."""


def discover(policy: Policy, settings: SettingsSource, folders: Folders = no_folders) -> Discovery:
    """Load every installed plugin that the policy admits. Never raises for a plugin's fault."""
    admitted, refused = installed(policy)
    found = Discovery(refused=refused)
    for info in admitted:
        try:
            loaded = load_one(info, settings, folders)
        except PluginRefused as error:
            found.refused.append(Refusal(info, error.code, str(error)))
        else:
            found.models += loaded.models
            found.refused += loaded.refused
            found.untrained += loaded.untrained
    clashing = clashes(found.models)
    found.refused.extend(clashing)
    found.refused.sort(key=lambda refusal: (refusal.plugin.distribution, refusal.plugin.entry_point))
    refused_for_names = {refusal.plugin for refusal in clashing}
    found.models = [offered for offered in found.models if offered.plugin not in refused_for_names]
    found.untrained = [model for model in found.untrained if model.plugin not in refused_for_names]
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


def load_one(info: PluginInfo, settings: SettingsSource, folders: Folders = no_folders) -> Discovery:
    """Import one plugin and ask its hook for models, a version for each of `folders` that is one of theirs.

    Raises PluginRefused with a reason code. A version that cannot be offered is among the refused, alone.
    """
    with guarded(info, "IMPORT_FAILED", "cannot be loaded"):
        return _loaded(info, settings, folders)


def clashes(offers: Iterable[Named]) -> list[Refusal]:
    """Two distributions with one model name are both refused, and so are names equal after '.' -> '_'.

    Versions of one model of one plugin do not clash.
    """
    owners: dict[str, list[Named]] = {}
    for offered in {(offered.plugin, offered.spec.name): offered for offered in offers}.values():
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


def _loaded(info: PluginInfo, settings: SettingsSource, folders: Folders) -> Discovery:
    compat.check_requirement(info)
    with barred_build_tools():
        with guarded(info, "IMPORT_FAILED", "cannot be imported"):
            module = importlib.import_module(info.module)
        models = _models(info, module)
        given = settings(info.distribution)
        refuse_unknown(info, models, given)
        found = Discovery()
        _check_distinct(info, [Offering(info, model, given, folders).enter(found) for model in models])
        return found


def _check_distinct(info: PluginInfo, names: Sequence[str]) -> None:
    """Two models of one plugin with one name would be taken for two versions of one."""
    for name, count in Counter(names).items():
        if count > 1:
            which = f"{name!r} of {info.distribution} {info.version}"
            way_out = f"{info.distribution} offers the name twice; rename one of its models"
            raise PluginRefused("NAME_CLASH", f"model names clash: {which} and {which}; {way_out}")


def _models(info: PluginInfo, module: ModuleType) -> list[Model]:
    manager = pluggy.PluginManager("mercato")
    manager.add_hookspecs(hooks)
    with guarded(info, "HOOK_INVALID", "does not fit the hook mercato_models()"):
        manager.register(module, info.entry_point)
        manager.check_pending()
    if not manager.hook.mercato_models.get_hookimpls():
        raise PluginRefused("NO_HOOK", f"{info.distribution}: {info.module} has no @hookimpl def mercato_models()")
    with guarded(info, "HOOK_FAILED", "mercato_models() failed"):
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
