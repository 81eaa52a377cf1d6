"""What an installed model is stored under, and the model as plain values with that key."""

from mercato_plugin.settings import build_settings
from mercato_server.contract.plugin import Offer, OfferedModel
from mercato_server.plugins.registry import source_hash
from mercato_server.store.keys import artifact_key


def key_of(offered: OfferedModel) -> str:
    """The key that an export of this model, as installed and configured now, is stored under. Raises ConfigError."""
    plugin = offered.plugin
    settings = build_settings(offered.settings)
    return artifact_key(plugin.distribution, plugin.version, source_hash(plugin), None, offered.spec, settings)


def offer_of(offered: OfferedModel) -> Offer:
    """The model without its code. Raises ConfigError."""
    return Offer(offered.plugin, offered.spec, key_of(offered), offered.given)
