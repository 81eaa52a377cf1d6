"""Names of items to vectors, by the network of a sentence encoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from mercato_semantic.building import load_encoder, packaged_folder, serving_tokenizer
from mercato_semantic.folder import read_config
from mercato_training import TrainContext


def name_vectors(names: Sequence[str], encoder: Path | None, ctx: TrainContext) -> torch.Tensor:
    """Unit vectors, float32 of shape (names, hidden), on the CPU; by the packaged encoder when none is given."""
    folder = encoder or packaged_folder()
    config = read_config(folder)
    network = load_encoder(folder, config).to(ctx.device)
    tokenizer = Tokenizer.from_str(serving_tokenizer(folder, config).decode())
    tokenizer.encode_special_tokens = True
    tokens = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(list(names))]

    def encode(places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> torch.Tensor:
        rows = [tokens[place] for place in places]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=config.pad)
        with torch.no_grad():
            lengths = torch.tensor([len(row) for row in rows])
            vectors: torch.Tensor = network(padded.to(ctx.device), lengths.to(ctx.device))
        return vectors

    return ctx.computed("encode names", len(tokens), encode, sizes=[len(row) for row in tokens]).cpu()
