"""Whether a plugin and this server speak the same version of the plugin interface."""

from importlib.metadata import version

from mercato_plugin import API_VERSION
from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import PluginRefused
from mercato_server.plugins.registry import interface_requirement


def check_requirement(info: PluginInfo) -> None:
    """Refuse a plugin whose metadata demands another `mercato-plugin`, before anything of it is imported."""
    requirement = interface_requirement(info)
    if requirement is None:
        return
    have = version("mercato-plugin")
    if not requirement.specifier.contains(have, prereleases=True):
        raise PluginRefused(
            "API_VERSION",
            f"{info.distribution} {info.version} needs mercato-plugin{requirement.specifier}, this server has {have}; "
            "install a release of the plugin that fits, or another server",
        )


def check_declared(info: PluginInfo, model: str, declared: object) -> None:
    """Refuse a model written for another interface version: equal major, minor not greater than ours."""
    if not (isinstance(declared, tuple) and len(declared) == 2 and all(isinstance(part, int) for part in declared)):
        raise PluginRefused(
            "API_VERSION", f"{info.distribution}: {model}.api_version must be (major, minor), got {declared!r}"
        )
    if declared[0] != API_VERSION[0] or declared[1] > API_VERSION[1]:
        raise PluginRefused(
            "API_VERSION",
            f"{info.distribution} {info.version}: {model} is written for plugin interface "
            f"{declared[0]}.{declared[1]}, this server has {API_VERSION[0]}.{API_VERSION[1]}",
        )
