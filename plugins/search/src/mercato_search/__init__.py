"""The plugin of search.products: its one hook."""

from collections.abc import Iterable

from mercato_plugin import Model, hookimpl
from mercato_search.products import ProductsModel, SearchSettings

__all__ = ["ProductsModel", "SearchSettings", "mercato_models"]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [ProductsModel()]
