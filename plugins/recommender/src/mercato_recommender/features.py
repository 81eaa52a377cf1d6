"""What is known of items besides who met them: vectors of their names and of their pictures, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mercato_recommender.interactions import numbers
from mercato_recommender.names import name_vectors
from mercato_recommender.product_pictures import opened, picture_vectors
from mercato_training import Column, Data, Table, TableSchema, TrainContext, TrainingError

ITEM, NAME, IMAGE = "product_id", "name", "image"
LENGTH = 3.0
"""Mean length of a kind of features: the fit takes large steps along them, and few along each item's own vector."""

COLUMNS = {
    ITEM: Column("id"),
    NAME: Column("text", max_bytes=2048),
    # A path is no text: nothing in it is masked. A product need not have one.
    IMAGE: Column("key", optional=True),
}


@dataclass(frozen=True)
class Sources:
    """What describes items: names, where `text`, and pictures, where `vision` is a model folder of vision.category."""

    text: bool
    encoder: Path | None
    vision: Path | None

    @property
    def columns(self) -> list[str]:
        """Those of the table products besides the ids."""
        return [NAME] * self.text + [IMAGE] * (self.vision is not None)


def described(seen: Sequence[str], data: Data, sources: Sources, ctx: TrainContext) -> tuple[list[str], torch.Tensor]:
    """The items, those of the table products that nobody met behind the others, and their features.

    Features are float32 of shape (items, any), rows of zeros where nothing describes an item; of no width without a
    source. Raises DataError, or TrainingError where the data has no such table or the model folder is not whole.
    """
    if not sources.columns:
        return list(seen), torch.zeros(len(seen), 0)
    table = _products(data, sources)
    met = set(seen)
    ids = [*seen, *sorted(item for item in table[ITEM].tolist() if item not in met)]
    vectors = torch.cat([_spread(found) for found in _vectors(table, data, sources, ctx)], dim=1)
    features = torch.zeros(len(ids), vectors.shape[1])
    features[torch.from_numpy(numbers(table[ITEM].tolist(), ids))] = vectors
    return ids, features


def _products(data: Data, sources: Sources) -> Table:
    if not data.path.is_dir():
        text = "--set text, --set vision: the data is one file, expected a folder with interactions and products"
        raise TrainingError(text)
    table = data.table(TableSchema("products", {name: COLUMNS[name] for name in (ITEM, *sources.columns)}))
    if sources.vision is not None and IMAGE not in table:
        text = f"products: column {IMAGE!r} is missing, which --set vision reads; --rename THEIRS={IMAGE} takes another"
        raise TrainingError(text)
    return table


def _vectors(table: Table, data: Data, sources: Sources, ctx: TrainContext) -> Iterator[torch.Tensor]:
    """One matrix of float32 for each source, (rows, any)."""
    if sources.text:
        yield name_vectors(table[NAME].tolist(), sources.encoder, ctx)
    if sources.vision is not None:
        yield picture_vectors(table[IMAGE].tolist(), data.path, opened(sources.vision), ctx)


def _spread(vectors: torch.Tensor) -> torch.Tensor:
    """Around 0, with rows of length LENGTH on average: products of one shop have much in common, which tells nothing.

    Rows of zeros stay.
    """
    is_known = vectors.any(dim=1)
    centred = (vectors - vectors[is_known].mean(dim=0)) * is_known[:, None]
    mean_length: torch.Tensor = torch.linalg.vector_norm(centred[is_known], dim=1).mean()
    return centred * (LENGTH / mean_length.clamp(min=1e-12))
