"""The store key of an installed model, and the artifact found under it."""

from mercato_plugin.settings import build_settings
from mercato_server.contract.plugin import OfferedModel
from mercato_server.plugins.registry import source_hash
from mercato_server.store import artifact_key


def key_of(offered: OfferedModel) -> str:
    """The key that an export of this model, as installed and configured now, is stored under."""
    plugin = offered.plugin
    settings = build_settings(offered.settings)
    return artifact_key(plugin.distribution, plugin.version, source_hash(plugin), None, offered.spec, settings)
