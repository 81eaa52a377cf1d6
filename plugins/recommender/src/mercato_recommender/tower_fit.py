"""Fitting the two towers: rows of a history and the item met next, in-batch softmax, and the items' vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mercato_recommender.interactions import Indices
from mercato_recommender.tower_network import UserTower, unit

SPREAD, DESCRIBED_SPREAD = 0.1, 0.02
"""Standard deviation of the vectors that the fit starts from, without a description of items and with one."""


@dataclass(frozen=True)
class Samples:
    """Histories, (rows, longest), the latest first and padded with the number of items, and what was met next."""

    history: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "Samples":
        """The same on a device."""
        return Samples(self.history.to(device), self.target.to(device))


def samples(sequences: Sequence[Indices], starts: Sequence[int], longest: int, items: int) -> Samples:
    """A row for each item of a sequence from its place in `starts` on, with the items before it as history."""
    histories, targets = [], []
    for sequence, start in zip(sequences, starts, strict=True):
        for place in range(max(1, start), len(sequence)):
            histories.append(sequence[max(0, place - longest) : place][::-1])
            targets.append(sequence[place])
    padded = np.full((len(histories), longest), items, np.int64)
    for row, history in enumerate(histories):
        padded[row, : len(history)] = history
    return Samples(torch.from_numpy(padded), torch.tensor(np.array(targets, np.int64)))


class ItemTower(nn.Module):
    """A vector of its own for each item, and what its features add; unit length.

    `features` has shape (items, any), float32, rows of zeros where there is nothing to know. While it is fitted, an
    item's own vector is left out at the rate `hidden`, so that the features learn to stand alone.
    """

    features: torch.Tensor

    def __init__(self, items: int, size: int, features: torch.Tensor, hidden: float) -> None:
        super().__init__()
        self.own = nn.Embedding(items, size)
        nn.init.normal_(self.own.weight, std=DESCRIBED_SPREAD if features.shape[1] else SPREAD)
        self.register_buffer("features", features, persistent=False)
        self.described = nn.Linear(features.shape[1], size) if features.shape[1] else None
        self.hidden = hidden if features.shape[1] else 0.0

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Numbers of items, (rows,), to unit vectors (rows, size)."""
        own = self.own(items)
        if self.training and self.hidden:
            own = own * (torch.rand(len(items), 1, device=own.device) >= self.hidden)
        return unit(own if self.described is None else own + self.described(self.features[items]))


class Towers(nn.Module):
    """Both towers; the logit of an item is the cosine over `temperature`."""

    def __init__(self, user: UserTower, item: ItemTower, log_shares: torch.Tensor, temperature: float) -> None:
        super().__init__()
        self.user = user
        self.item = item
        self.temperature = temperature
        self.register_buffer("log_shares", log_shares, persistent=False)

    log_shares: torch.Tensor

    def forward(self, history: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """One loss per row, (rows,): cross entropy of its target among the targets of all rows.

        An item stands in a batch as often as it is met; its logit is corrected by the logarithm of that share.
        """
        logits = self.embedded(history) @ self.item(target).T / self.temperature - self.log_shares[target]
        is_copy = (target[:, None] == target) & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
        logits = logits.masked_fill(is_copy, -1e9)
        return nn.functional.cross_entropy(logits, torch.arange(len(target), device=target.device), reduction="none")

    def embedded(self, history: torch.Tensor) -> torch.Tensor:
        """As the user tower itself, without a tensor of all histories' vectors."""
        weights = self.user.weights(history).to(self.user.met.weight.dtype)
        mean = nn.functional.embedding_bag(history, self.user.met.weight, per_sample_weights=weights, mode="sum")
        return self.user.corrected(mean)


def log_shares(targets: torch.Tensor, items: int) -> torch.Tensor:
    """The logarithm of the share of rows that each item is the target of, smoothed by one row; (items,)."""
    counts = torch.bincount(targets, minlength=items).float() + 1
    return torch.log(counts / counts.sum())


def recall(towers: Towers, stop: Samples, batch_rows: int, depth: int = 20) -> float:
    """The share of rows whose target is among the `depth` nearest items that are not in the history."""
    items = torch.arange(len(towers.item.own.weight), device=stop.target.device)
    vectors = towers.item(items)
    hits = 0
    for start in range(0, len(stop.target), batch_rows):
        rows = slice(start, start + batch_rows)
        near = nn.functional.pad(towers.embedded(stop.history[rows]) @ vectors.T, (0, 1))
        best = near.scatter(1, stop.history[rows], -2.0)[:, :-1].topk(min(depth, len(items)), dim=1).indices
        hits += int((best == stop.target[rows, None]).sum())
    return hits / max(1, len(stop.target))
