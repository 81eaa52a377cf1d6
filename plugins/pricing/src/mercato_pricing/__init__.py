"""The plugin of pricing.linear and pricing.demand: its one hook."""

from collections.abc import Iterable

from mercato_plugin import Model, hookimpl
from mercato_pricing.demand import DemandModel
from mercato_pricing.linear import LinearPricing

__all__ = ["DemandModel", "LinearPricing", "mercato_models"]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [LinearPricing(), DemandModel()]
