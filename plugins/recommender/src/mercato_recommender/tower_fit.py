"""Fitting the two towers: rows of a history and the item met next, in-batch softmax, and the items' vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mercato_recommender.interactions import Indices
from mercato_recommender.tower_network import UserTower, unit

SPREAD, DESCRIBED_SPREAD = 0.1, 0.02
"""Standard deviation of the vectors that the fit starts from, without a description of items and with one."""

DEPTH = 20
"""The nearest items that count, for stopping and for new items."""

LIFTED_ROWS = 256


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


def recall(towers: Towers, stop: Samples, batch_rows: int) -> float:
    """The share of rows whose target is among the nearest items that are not in the history."""
    vectors = towers.item(torch.arange(len(towers.item.own.weight), device=stop.target.device))
    hits = 0
    for rows, near in _nearness(towers, vectors, stop, batch_rows):
        best = near.topk(min(DEPTH, len(vectors)), dim=1).indices
        hits += int((best == stop.target[rows, None]).sum())
    return hits / max(1, len(stop.target))


def lift(towers: Towers, vectors: torch.Tensor, is_new: torch.Tensor, share: float, stop: Samples) -> float:
    """What to add to the cosines of new items so that they take this share of the nearest items; at least 0.

    An item that was fitted is nearer to the users it was fitted to than a description can bring it. `vectors` has
    shape (items, size), `is_new`, bool, (items,).
    """
    depth = min(DEPTH, int((~is_new).sum()))
    places = min(depth, int(is_new.sum()))
    if not places or not len(stop.target):
        return 0.0
    gaps = []
    for _, near in _nearness(towers, vectors, stop, LIFTED_ROWS):
        fitted = near[:, ~is_new].topk(depth, dim=1).values
        # The new item of rank n takes a place once it passes the fitted one of rank depth - 1 - n, counted from 0.
        gaps.append(fitted.flip(1)[:, :places] - near[:, is_new].topk(places, dim=1).values)
    ordered = torch.cat(gaps).flatten().sort().values
    taken = round(share * depth * len(stop.target))
    return max(0.0, float(ordered[min(taken, len(ordered) - 1)]))


def _nearness(
    towers: Towers, vectors: torch.Tensor, asked: Samples, batch_rows: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Some rows and their cosines, (rows, items); -2 for items of the history."""
    for start in range(0, len(asked.target), batch_rows):
        rows = slice(start, start + batch_rows)
        near = nn.functional.pad(towers.embedded(asked.history[rows]) @ vectors.T, (0, 1))
        yield rows, near.scatter(1, asked.history[rows], -2.0)[:, :-1]
