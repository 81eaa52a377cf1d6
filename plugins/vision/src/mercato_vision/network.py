"""ResNet-18 as a torch module, named as in torchvision and timm: pixels to 512 features, and features to logits."""

from collections.abc import Sequence

import torch
from torch import nn

FEATURES = 512
WIDTHS = (64, 128, 256, 512)
INNER = (64, 64, 128, 128, 256, 256, 512, 512)
"""Channels between the two convolutions of each block, where nothing is pruned."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels in [0, 1], as the published weights expect them."""


class BasicBlock(nn.Module):
    """Two convolutions of 3 by 3 beside a shortcut."""

    def __init__(self, before: int, inner: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        is_same = before == after and stride == 1
        self.downsample: nn.Module = (
            nn.Identity()
            if is_same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, before, height, width) to (batch, after, height / stride, width / stride)."""
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


class Trunk(nn.Module):
    """Everything before the last layer. `inner` are the channels within the eight blocks."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, inner: Sequence[int] = INNER) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        before = (WIDTHS[0], *WIDTHS)
        for number, width in enumerate(WIDTHS):
            first = BasicBlock(before[number], inner[2 * number], width, 2 if number else 1)
            self.add_module(
                f"layer{number + 1}", nn.Sequential(first, BasicBlock(width, inner[2 * number + 1], width, 1))
            )
        self.register_buffer("mean", 255 * torch.tensor(MEAN), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(DEVIATION), persistent=False)

    @property
    def inner(self) -> tuple[int, ...]:
        """Channels within the blocks."""
        return tuple(block.conv1.out_channels for block in self.blocks)

    @property
    def blocks(self) -> list[BasicBlock]:
        """The eight blocks, in order."""
        return [block for block in self.modules() if isinstance(block, BasicBlock)]

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, 3), values 0 to 255 of any type, to (batch, 512)."""
        return self.stages(pixels)[-1]

    def stages(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """What each of the four stages gives on the mean over the picture, (batch, 64) to (batch, 512)."""
        x = ((pixels.to(self.mean.dtype) - self.mean) / self.deviation).permute(0, 3, 1, 2)
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        means = []
        for block in self.blocks:
            x = block(x)
            means.append(x.mean(dim=(2, 3)))
        return means[1::2]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """As `features`."""
        return self.features(pixels)


class ResNet18(Trunk):
    """The trunk and a linear layer."""

    def __init__(self, classes: int, inner: Sequence[int] = INNER) -> None:
        super().__init__(inner)
        self.fc = nn.Linear(FEATURES, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, 3), values 0 to 255 of any type, to logits (batch, classes)."""
        logits: torch.Tensor = self.fc(self.features(pixels))
        return logits


class CategoryNetwork(nn.Module):
    """The graph of vision.category: uint8 pixels to the probability of each class, (batch, classes)."""

    def __init__(self, network: ResNet18) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """(batch, size, size, 3) to `shares`."""
        return {"shares": torch.softmax(self.network(pixels), dim=1)}
