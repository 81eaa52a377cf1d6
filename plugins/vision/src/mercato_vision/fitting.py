"""Fitting a ResNet-18 to pictures: its head on the features of a frozen trunk, or all of it on augmented pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from mercato_training import TrainContext
from mercato_vision.augmentation import Augmentation
from mercato_vision.network import ResNet18

AT_ONCE = 256
"""Pictures that are judged together."""

HEAD_EPOCHS = 100
HEAD_RATE = 0.01


@dataclass(frozen=True)
class Samples:
    """Pixels, uint8 (rows, size, size, 3), and the numbers of their labels, int64 (rows,), on one device."""

    pixels: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Both:
    """What is fitted to, and what the best epoch is chosen by."""

    fit: Samples
    stop: Samples


def fit_head(network: ResNet18, both: Both, ctx: TrainContext) -> None:
    """Fit the last layer alone, on features that are computed once."""
    network.to(ctx.device).eval()
    fit, stop = (_features(title, network, part.pixels, ctx) for title, part in _titled(both))

    def loss(module: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return cross_entropy(module(fit[rows]), both.fit.labels[rows], reduction="none")

    def score(module: torch.nn.Module) -> float:
        return float(cross_entropy(module(stop), both.stop.labels))

    ctx.fit(network.fc, len(fit), loss, score, epochs=HEAD_EPOCHS, learning_rate=HEAD_RATE, patience=5)


@dataclass(frozen=True)
class Pace:
    """How to fit all layers: `rows` pictures at a time, of which some are mirrored where `mirrors` is set."""

    epochs: int
    learning_rate: float
    rows: int
    mirrors: bool


def fit_whole(network: ResNet18, both: Both, ctx: TrainContext, pace: Pace) -> None:
    """Fit all layers on augmented pictures."""
    augmentation = Augmentation(ctx.seed, mirrors=pace.mirrors)
    fit = both.fit

    def loss(module: torch.nn.Module, numbers: torch.Tensor) -> torch.Tensor:
        # The batch norm counts steps, and a checkpoint keeps the count.
        step = int(network.bn1.num_batches_tracked or 0)
        pixels = augmentation(fit.pixels[numbers], step, numbers)
        return cross_entropy(module(pixels), fit.labels[numbers], reduction="none")

    def score(module: torch.nn.Module) -> float:
        return float(cross_entropy(logits_of(module, both.stop.pixels, ctx.device), both.stop.labels))

    ctx.fit(
        network,
        len(fit.labels),
        loss,
        score,
        epochs=pace.epochs,
        learning_rate=pace.learning_rate,
        batch_rows=pace.rows,
    )


def logits_of(network: torch.nn.Module, pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Logits of any number of pictures, (rows, labels), computed on the device."""
    with torch.no_grad():
        return torch.cat([network(part.to(device)) for part in torch.split(pixels, AT_ONCE)])


def _features(title: str, network: ResNet18, pixels: torch.Tensor, ctx: TrainContext) -> torch.Tensor:
    def compute(rows: np.ndarray[Any, Any]) -> torch.Tensor:
        with torch.no_grad():
            return network.features(pixels[torch.from_numpy(rows)])

    return ctx.computed(title, len(pixels), compute)


def _titled(both: Both) -> tuple[tuple[str, Samples], ...]:
    return ("features", both.fit), ("features of validation", both.stop)
