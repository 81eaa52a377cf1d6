"""The graph of recommender.two_tower as a torch module: a history to a vector, and the items nearest to it."""

import torch
from torch import nn

from mercato_recommender.selection import Selection, rows_of

UNITS = 2048
"""Components of unit vectors are rounded to 1 / UNITS: their products then add up exactly in float32, and in TF32."""


class UserTower(nn.Module):
    """The mean of what the items of a history mean, the latest weighing most, and a correction; unit length.

    `fitted`, bool of shape (items,), says whose meaning was learned: the others do not count.
    """

    recency: torch.Tensor
    counted: torch.Tensor

    def __init__(self, fitted: torch.Tensor, size: int, *, decay: float, longest: int) -> None:
        super().__init__()
        items = len(fitted)
        self.met = nn.Embedding(items + 1, size, padding_idx=items)
        self.register_buffer("counted", torch.cat([fitted, torch.zeros(1, dtype=torch.bool)]).double())
        self.up = nn.Linear(size, 2 * size)
        self.down = nn.Linear(2 * size, size)
        self.register_buffer("recency", decay ** torch.arange(longest, dtype=torch.float64))

    def weights(self, history: torch.Tensor) -> torch.Tensor:
        """What each place of a history counts, (batch, length), adding up to 1, or to 0 where no item counts."""
        counts = rows_of(self.counted, history) * self.recency[: history.shape[1]]
        return counts / counts.sum(dim=1, keepdim=True).clamp(min=1e-30)

    def corrected(self, mean: torch.Tensor) -> torch.Tensor:
        """From the mean vector to the user's, (batch, size), of unit length."""
        return unit(mean + self.down(torch.relu(self.up(mean))))

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """Numbers of items, the latest first, (batch, length), to unit vectors (batch, size)."""
        met = self.met(history)
        mean = torch.matmul(self.weights(history).to(met.dtype)[:, None, :], met)[:, 0, :]
        return self.corrected(mean)


class TwoTowerNetwork(nn.Module):
    """A user tower in float64, and the items' unit vectors, (items, size); `evident`, bool, says which count.

    `lift` is added to the cosines of items that were not fitted.
    """

    vectors: torch.Tensor
    evident: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, user: UserTower, vectors: torch.Tensor, evident: torch.Tensor, *, lift: float = 0.0, best: int
    ) -> None:
        super().__init__()
        self.user = user.double()
        self.register_buffer("vectors", torch.round(vectors.double() * UNITS).float().T.contiguous())
        self.register_buffer("evident", evident.long())
        is_new = 1 - user.counted[:-1].long()
        # Cosines in units of 1 / UNITS ** 2, shifted so that all of them are above 0.
        self.register_buffer("shift", 2 * UNITS**2 + round(lift * UNITS**2) * is_new)
        self.selection = Selection(len(vectors), best)

    def forward(
        self, history: torch.Tensor, candidates: torch.Tensor, exclude: torch.Tensor, bounded: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Numbers of items, the latest of the history first; see Selection."""
        user = torch.round(self.user(history) * UNITS).to(self.vectors.dtype)
        nearness = torch.matmul(user, self.vectors).long() + self.shift
        is_known = rows_of(self.user.counted, history).long().amax(dim=1, keepdim=True)
        items, strength = self.selection(nearness * self.evident * is_known, candidates, exclude, bounded)
        cosine = strength.double() / UNITS**2 - 2
        return {"items": items, "scores": self.selection.scores(items, strength, ((1 + cosine) / 2).clamp(0.0, 1.0))}


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Rows of length 1; a row of zeros stays."""
    scaled: torch.Tensor = rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp(min=1e-12)
    return scaled
