"""The graphs as torch modules: terms to unit vectors, and pictures to unit vectors."""

import torch
from torch import nn

from mercato_vision.network import WIDTHS, ResNet18

LEAST = 1e-12
"""A shorter vector is not made longer."""


class TermsTower(nn.Module):
    """Latent semantic analysis: the weighted sum of the terms' rows of a table, (terms, width), as a unit vector."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(self, terms: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Terms, int64, and weights, both (batch, length), to (batch, width). A weight of 0 counts for nothing."""
        return unit((self.table[terms] * weights[:, :, None]).sum(dim=1))


class ImageTower(nn.Module):
    """What a ResNet-18 sees last, which is the kind of thing, beside what it sees first, which is mostly its colour.

    Of either the catalogue's mean is taken away: features are not negative, so that those of any two pictures have a
    cosine near 1. Either is a unit vector then, and so is both together.
    """

    def __init__(self, network: ResNet18, centre: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.centre = nn.Parameter(centre, requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels, uint8 (batch, size, size, 3), to (batch, IMAGE_WIDTH)."""
        return spread(self.features(pixels), self.centre)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Before the mean is taken away."""
        stages = self.network.stages(pixels)
        return torch.cat((stages[0], stages[-1]), dim=1)


IMAGE_WIDTH = WIDTHS[0] + WIDTHS[-1]


def spread(features: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Unit vectors of what differs from the centre, both parts at the same length; (batch, IMAGE_WIDTH)."""
    parts: tuple[torch.Tensor, ...] = torch.split(features - centre, [WIDTHS[0], WIDTHS[-1]], dim=1)
    result: torch.Tensor = torch.cat([unit(part) for part in parts], dim=1) * 0.5**0.5
    return result


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Each row at length 1."""
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    result: torch.Tensor = vectors / length.clamp_min(LEAST)
    return result
