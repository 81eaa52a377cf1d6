"""The plugin of reviews.sentiment and reviews.intent: its one hook."""

from collections.abc import Iterable

from mercato_plugin import Model, hookimpl
from mercato_reviews.intent import IntentModel, IntentSettings
from mercato_reviews.sentiment import SentimentModel

__all__ = ["IntentModel", "IntentSettings", "SentimentModel", "mercato_models"]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [SentimentModel(), IntentModel()]
