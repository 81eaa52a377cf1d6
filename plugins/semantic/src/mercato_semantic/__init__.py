"""The plugin of semantic.encoder: its one hook."""

from collections.abc import Iterable

from mercato_plugin import Model, hookimpl
from mercato_semantic.model import EncoderSettings, SentenceEncoderModel

__all__ = ["EncoderSettings", "SentenceEncoderModel", "mercato_models"]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [SentenceEncoderModel()]
