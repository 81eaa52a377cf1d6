"""The end of both graphs: from what speaks for each item to the best of those that are allowed, exact in integers."""

import torch


def rows_of(table: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The rows of a table for numbers of any shape: a Gather, which GPUs have for every type."""
    return table.index_select(0, numbers.flatten()).reshape(*numbers.shape, *table.shape[1:])


class Selection(torch.nn.Module):
    """Ranks items by whole numbers, so that the order is the same on every device, in every batch and precision.

    Items for which nothing speaks come after the others; items of equal strength stand by popularity.
    """

    places: torch.Tensor

    def __init__(self, items: int, best: int) -> None:
        super().__init__()
        self.items = items
        self.best = best
        self.register_buffer("places", torch.arange(items, 0, -1))

    def forward(
        self, strength: torch.Tensor, candidates: torch.Tensor, exclude: torch.Tensor, bounded: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers and strengths of the best, int64 of shape (batch, best); number `items` where none is left.

        `strength` is int64 of shape (batch, items), at least 0, below 2 ** 62 / (items + 1). `candidates` and
        `exclude` hold numbers, (batch, any), where `items` stands for none; only candidates count where `bounded`,
        of shape (batch,), is 1.
        """
        allowed = (1 - bounded)[:, None].expand(-1, self.items + 1)
        allowed = allowed.scatter(1, candidates, torch.ones_like(candidates))
        allowed = allowed.scatter(1, exclude, torch.zeros_like(exclude))[:, : self.items]
        keys = (strength * (self.items + 1) + self.places) * allowed
        top = torch.topk(keys, self.best, dim=1)
        return torch.where(top.values > 0, top.indices, self.items), top.values // (self.items + 1)

    def scores(self, items: torch.Tensor, strength: torch.Tensor, evident: torch.Tensor) -> torch.Tensor:
        """`evident` where the strength is above 0, else popularity: from -1 / items down to -1; 0 for no item."""
        popular = (items + 1).to(evident.dtype) / -self.items
        scores = torch.where(strength > 0, evident, popular)
        return torch.where(items < self.items, scores, 0.0).to(torch.float32)
