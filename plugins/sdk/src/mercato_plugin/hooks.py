"""The one hook, its markers, and the version of this interface."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mercato_plugin.model import Model

API_VERSION = (1, 0)
"""Major and minor number of the plugin interface. A plugin is served when its major number is equal and
its minor number is not greater."""

GROUP = "mercato.plugins"
"""The entry-point group that the server reads."""

hookspec = pluggy.HookspecMarker("mercato")
hookimpl = pluggy.HookimplMarker("mercato")


@hookspec
def mercato_models() -> Iterable["Model"]:
    """Return the plugin's models.

    Called once at start-up and once in each export process. Since interface version 1.0.
    """
    raise NotImplementedError
