"""The graph of recommender.items as a torch module: a history to the items whose similarities add up highest."""

import torch

from mercato_recommender.selection import Selection, rows_of

SCALE = 1 << 30
"""Similarities are summed in units of 1 / SCALE: whole numbers, whose sum no order of adding changes."""


class ItemsNetwork(torch.nn.Module):
    """`neighbours`, int32, and `similarities`, float32, have shape (items, neighbours).

    A place without a neighbour holds the number `items` and the similarity 0. The item `p` places before the latest
    counts `decay ** p`.
    """

    neighbours: torch.Tensor
    similarities: torch.Tensor
    recency: torch.Tensor

    def __init__(
        self, neighbours: torch.Tensor, similarities: torch.Tensor, *, decay: float, longest: int, best: int
    ) -> None:
        super().__init__()
        items, width = neighbours.shape
        self.register_buffer("neighbours", torch.cat([neighbours, torch.full((1, width), items, dtype=torch.int32)]))
        self.register_buffer("similarities", torch.cat([similarities, torch.zeros(1, width)]))
        self.register_buffer("recency", decay ** torch.arange(longest, dtype=torch.float64))
        self.selection = Selection(items, best)

    def forward(
        self, history: torch.Tensor, candidates: torch.Tensor, exclude: torch.Tensor, bounded: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Numbers of items, the latest of the history first; see Selection."""
        shares = rows_of(self.similarities, history).double() * self.recency[: history.shape[1]][None, :, None]
        units = torch.round(shares * SCALE).flatten(1)
        sums = units.new_zeros(history.shape[0], self.selection.items + 1)
        sums = sums.scatter_add(1, rows_of(self.neighbours, history).long().flatten(1), units)
        strength = sums[:, : self.selection.items].long()
        items, strength = self.selection(strength, candidates, exclude, bounded)
        return {"items": items, "scores": self.selection.scores(items, strength, strength.double() / SCALE)}
