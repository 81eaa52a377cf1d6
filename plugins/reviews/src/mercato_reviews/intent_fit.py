"""What training reviews.intent computes: unit vectors of texts, the rows of a few per label, and answers to keep."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from mercato_plugin import Batch
from mercato_reviews.explanation import SHOWN, Array
from mercato_reviews.head import Head
from mercato_reviews.intent import IntentModel
from mercato_reviews.intent_network import IntentNetwork, embedded
from mercato_reviews.spans import merged
from mercato_semantic.building import load_encoder, serving_tokenizer
from mercato_semantic.encoder import SentenceEncoder
from mercato_semantic.folder import EncoderConfig

CLEAR = 1e-4
"""Two weights that differ by less than this may change places in float32."""

UNKNOWN = ("[UNK]", "<unk>")
"""What the families call the token for all that their tokenizer does not know."""


@dataclass(frozen=True)
class Answers:
    """Answers to some texts by output, and in which rows the order of the words does not hang on rounding."""

    outputs: Mapping[str, Array]
    is_clear: Array


@dataclass(frozen=True)
class Reader:
    """A frozen encoder with its tokenizer, as serving has them."""

    encoder: SentenceEncoder
    model: IntentModel
    pad: int
    device: torch.device

    @classmethod
    def of(cls, folder: Path, config: EncoderConfig, device: torch.device) -> "Reader":
        """The encoder of a folder on a device."""
        model = IntentModel()
        model.use(Tokenizer.from_str(serving_tokenizer(folder, config).decode()))
        return cls(load_encoder(folder, config).to(device), model, config.pad, device)

    def tokens(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """The ids of each text."""
        return _rows(self.model.preprocess(_batch(texts))["input_ids"])

    def unknown(self, texts: Sequence[str]) -> float:
        """The share of tokens that the tokenizer does not know: of a text in another script almost all."""
        ids = torch.cat(self.tokens(texts))
        names = (self.model.tokenizer.token_to_id(name) for name in UNKNOWN)
        known = torch.tensor([number for number in names if number is not None])
        return float(torch.isin(ids, known).double().mean())

    def vectors(self, tokens: Sequence[torch.Tensor]) -> torch.Tensor:
        """Unit vectors of shape (texts, hidden), on the device."""
        with torch.no_grad():
            return embedded(self.encoder, *(part.to(self.device) for part in _padded(tokens, self.pad)))

    def answers(self, network: IntentNetwork, head: Head, texts: Sequence[str]) -> Answers:
        """The answers in the form in which the model gives them, computed in float64 on the CPU."""
        batch = _batch(texts)
        tokens = _rows(self.model.preprocess(batch)["input_ids"])
        with torch.no_grad():
            found = copy.deepcopy(network).cpu().double()(*_padded(tokens, self.pad))
        outputs = {name: value.numpy() for name, value in found.items()}
        answer = self.model.postprocess(outputs, batch)
        label = np.array([head.labels[number] for number in answer["label"]], object)
        words, _, _ = merged(outputs["contributions"], batch.state)
        return Answers({**answer, "label": label}, _is_clear(words))


def some_per_label(labels: Array, count: int, seed: int) -> Array:
    """The rows of at most `count` examples of each label, all rows for 0; fewer are always among more."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if not count:
        return np.sort(order)
    chosen = [order[labels[order] == label][:count] for label in np.unique(labels.astype(str))]
    return np.sort(np.concatenate(chosen))


def _is_clear(weights: Array) -> Array:
    """From weights of shape (rows, words); words that weigh nothing are not named."""
    sizes = -np.sort(-np.abs(np.pad(weights, ((0, 0), (0, SHOWN + 1)))), axis=1)[:, : SHOWN + 1]
    is_apart = sizes[:, :-1] - sizes[:, 1:] > CLEAR
    return np.asarray((is_apart | (sizes[:, :-1] == 0)).all(axis=1))


def _batch(texts: Sequence[str]) -> Batch:
    return Batch({"text": np.array(texts, object)}, len(texts))


def _rows(ragged: Any) -> list[torch.Tensor]:
    return [torch.tensor(row) for row in np.split(ragged.values, np.cumsum(ragged.lengths)[:-1])]


def _padded(tokens: Sequence[torch.Tensor], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    padded = torch.nn.utils.rnn.pad_sequence(list(tokens), batch_first=True, padding_value=pad)
    return padded, torch.tensor([len(row) for row in tokens])
