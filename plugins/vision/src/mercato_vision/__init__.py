"""The plugin of vision.category: its one hook."""

from collections.abc import Iterable

from mercato_plugin import Model, hookimpl
from mercato_vision.category import CategoryModel

__all__ = ["CategoryModel", "mercato_models"]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [CategoryModel()]
