"""Held-out pictures with the network's answers in float64, for the certificate to hold the served model against."""

import copy
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from mercato_training import Table, TrainContext
from mercato_vision.category import best
from mercato_vision.collection import files_of
from mercato_vision.facts import SHOWN, Facts
from mercato_vision.network import CategoryNetwork, ResNet18
from mercato_vision.pictures import Pixels

ROWS = 32
"""Pictures that are kept."""

MAX_BYTES = 64 << 10
"""A larger picture is kept as the pixels that the network saw."""

CLEAR = 1e-3
"""Two probabilities have a clear order when they differ by this share."""


def record(network: ResNet18, facts: Facts, test: Table, pixels: torch.Tensor, ctx: TrainContext) -> None:
    """Two requests: pictures whose first labels have a clear order, and others, of which the labels are left out."""
    rows = test.take(np.arange(min(ROWS, test.rows)))
    seen: Pixels = pixels[:ROWS].numpy()
    files = [file if len(file) <= MAX_BYTES else _png(own) for file, own in zip(files_of(rows), seen, strict=True)]
    shares = _shares(network, pixels[:ROWS])
    answer, is_clear = best(shares, facts.shown), _clear(shares)
    for chosen, left_out in ((is_clear, ()), (~is_clear, ("label", "labels"))):
        if chosen.any():
            outputs = {name: value[chosen] for name, value in answer.items() if name not in left_out}
            kept = [file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen]
            ctx.record({"image": kept}, _named(outputs, facts))


def _named(outputs: Mapping[str, Any], facts: Facts) -> Mapping[str, Any]:
    """With labels in place of their numbers."""
    names = np.array(facts.labels, object)
    return {name: names[value] if name in ("label", "labels") else value for name, value in outputs.items()}


def _shares(network: ResNet18, pixels: torch.Tensor) -> Any:
    exact = CategoryNetwork(copy.deepcopy(network).cpu().double()).eval()
    with torch.inference_mode():
        return exact(pixels.cpu())["shares"].float().numpy()


def _clear(shares: Any) -> Any:
    """Whether the order of a row's first probabilities, and of the one behind them, is beyond rounding."""
    first = -np.sort(-shares, axis=1)[:, : SHOWN + 1]
    return np.all(first[:, :-1] - first[:, 1:] > CLEAR * first[:, :-1], axis=1) & (first[:, -2] > 0)


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
