"""An operator's settings of a plugin on their way to another process: JSON, in which secrets stay marked as such."""

from collections.abc import Mapping
from typing import Any

from mercato_plugin import Secret

_MARK = "$secret"


def sent(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON takes, for `received`: the plugin host takes a secret only where it is marked as one."""
    return {name: {_MARK: str(value)} if isinstance(value, Secret) else value for name, value in settings.items()}


def received(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were sent."""
    return {name: Secret(value[_MARK]) if _is_secret(value) else value for name, value in settings.items()}


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {_MARK}
