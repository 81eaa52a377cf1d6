"""What is known of items besides who met them: vectors of their names, by the network of a sentence encoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from mercato_semantic.building import load_encoder, packaged_folder, serving_tokenizer
from mercato_semantic.folder import read_config
from mercato_training import Column, Data, TableSchema, TrainContext, TrainingError

ITEM, NAME = "product_id", "name"
LENGTH = 3.0
"""Mean length of the features: the fit takes large steps along them, and few along each item's own vector."""

SCHEMA = TableSchema("products", {ITEM: Column("id"), NAME: Column("text", max_bytes=2048)})


def described(
    seen: Sequence[str], data: Data, by_text: bool, encoder: Path | None, ctx: TrainContext
) -> tuple[list[str], torch.Tensor]:
    """The items, those of the table products that nobody met behind the others, and their features.

    Features are float32 of shape (items, any), rows of zeros where an item has no name; of no width without text.
    Raises DataError, or TrainingError where the data has no such table.
    """
    if not by_text:
        return list(seen), torch.zeros(len(seen), 0)
    if not data.path.is_dir():
        raise TrainingError("--set text=true: the data is one file, expected a folder with interactions and products")
    table = data.table(SCHEMA)
    names = dict(zip(table[ITEM].tolist(), table[NAME].tolist(), strict=True))
    ids = [*seen, *sorted(names.keys() - set(seen))]
    rows = [place for place, item in enumerate(ids) if item in names]
    features = torch.zeros(len(ids), 0)
    if rows:
        vectors = _vectors([names[ids[place]] for place in rows], encoder or packaged_folder(), ctx)
        features = torch.zeros(len(ids), vectors.shape[1])
        features[rows] = _spread(vectors)
    return ids, features


def _spread(vectors: torch.Tensor) -> torch.Tensor:
    """Around 0, with rows of length LENGTH on average: names of one shop have much in common, which tells nothing."""
    centred = vectors - vectors.mean(dim=0)
    mean_length: torch.Tensor = torch.linalg.vector_norm(centred, dim=1).mean()
    return centred * (LENGTH / mean_length.clamp(min=1e-12))


def _vectors(texts: Sequence[str], folder: Path, ctx: TrainContext) -> torch.Tensor:
    """Unit vectors of the texts, of shape (texts, hidden), on the CPU."""
    config = read_config(folder)
    network = load_encoder(folder, config).to(ctx.device)
    tokenizer = Tokenizer.from_str(serving_tokenizer(folder, config).decode())
    tokenizer.encode_special_tokens = True
    tokens = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]

    def encode(places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> torch.Tensor:
        rows = [tokens[place] for place in places]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=config.pad)
        with torch.no_grad():
            lengths = torch.tensor([len(row) for row in rows])
            vectors: torch.Tensor = network(padded.to(ctx.device), lengths.to(ctx.device))
        return vectors

    return ctx.computed("encode names", len(tokens), encode, sizes=[len(row) for row in tokens]).cpu()
