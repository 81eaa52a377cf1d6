"""What an installed model is stored under, and what a plugin has as plain values with those keys."""

from mercato_plugin.settings import build_settings
from mercato_server.contract.plugin import Discovery, Offer, OfferedModel, Offers, PluginInfo
from mercato_server.errors import PluginRefused
from mercato_server.plugins.registry import source_hash
from mercato_server.store.keys import artifact_key


def key_of(offered: OfferedModel, source: str = "") -> str:
    """The key that an export of this model, as installed and configured now, is stored under. Raises ConfigError.

    `source` is the hash of the plugin's files, where it is known already.
    """
    plugin, settings = offered.plugin, build_settings(offered.settings)
    folder = None if offered.trained is None else offered.trained.digest
    source = source or source_hash(plugin)
    return artifact_key(plugin.distribution, plugin.version, source, folder, offered.spec, settings)


def offers_of(plugin: PluginInfo, found: Discovery) -> Offers:
    """What one plugin has, without its code. Raises PluginRefused where a setting of it cannot enter a key."""
    try:
        source = source_hash(plugin)
        offers = [Offer(plugin, o.spec, key_of(o, source), o.given, o.trained) for o in found.models]
    except Exception as error:
        raise PluginRefused("SETTINGS_INVALID", f"{plugin.distribution}: {error}") from error
    return Offers(offers, found.refused, found.untrained, source)
