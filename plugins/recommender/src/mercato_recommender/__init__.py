"""The plugin of recommender.items and recommender.two_tower: its one hook."""

from collections.abc import Iterable

from mercato_plugin import Model, hookimpl
from mercato_recommender.recommender import ItemsModel, Recommender, RecommenderSettings, TwoTowerModel

__all__ = ["ItemsModel", "Recommender", "RecommenderSettings", "TwoTowerModel", "mercato_models"]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [ItemsModel(), TwoTowerModel()]
