"""Plots of evaluations, as PNG files: who was taken for whom, predicted beside expected, models side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mercato_training.metrics import Confusion, Fit

MAX_POINTS = 5000
"""Points of a scatter plot; more are thinned out evenly."""

MAX_NAMED = 30
"""Labels up to which a confusion matrix writes its numbers."""

# matplotlib brings a font without Chinese; whichever of these is installed writes it.
_CHINESE = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "SimHei", "PingFang SC")
_FIRST_HAN = "\u2e80"


def confusion(found: Confusion, title: str, path: Path) -> None:
    """Expected labels down, predicted ones across; each row's shares as colour, its counts as numbers."""
    count = len(found.labels)
    figure, axes = _figure(title, 4 + 0.35 * min(count, MAX_NAMED))
    totals = np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(found.counts / totals, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("expected")
    if count <= MAX_NAMED:
        names = _drawable(found.labels)
        axes.set_xticks(range(count), names, rotation=45, ha="right")
        axes.set_yticks(range(count), names)
        for row, column in np.ndindex(count, count):
            is_dark = found.counts[row, column] > 0.5 * totals[row, 0]
            colour = "white" if is_dark else "black"
            axes.text(column, row, str(found.counts[row, column]), ha="center", va="center", color=colour)
    _save(figure, path)


def fit(found: Fit, title: str, path: Path) -> None:
    """Predicted over expected numbers; on the line they are equal."""
    figure, axes = _figure(title, 5)
    step = max(1, len(found.expected) // MAX_POINTS)
    axes.scatter(found.expected[::step], found.predicted[::step], s=6, alpha=0.4)
    ends = [float(min(found.expected.min(), found.predicted.min())), float(found.expected.max())]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.set_xlabel("expected")
    axes.set_ylabel("predicted")
    _save(figure, path)


def bars(groups: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """One panel per metric, for each has a scale of its own, and one bar per model."""
    metrics = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure = Figure(figsize=(2.6 * len(metrics), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(metrics, start=1):
        axes = figure.add_subplot(1, len(metrics), place)
        axes.set_title(name)
        axes.bar(list(groups), [values.get(name, 0.0) for values in groups.values()])
        axes.tick_params(axis="x", rotation=45)
    _save(figure, path)


def _figure(title: str, size: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(size, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    """Without the version that matplotlib would write, so that equal plots are equal files."""
    with matplotlib.rc_context({"font.family": ["DejaVu Sans", *_chinese_fonts()]}):
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _drawable(labels: Sequence[str]) -> list[str]:
    """The labels, or their numbers in the report where no installed font has their characters."""
    is_plain = _chinese_fonts() or all(letter < _FIRST_HAN for label in labels for letter in label)
    return list(labels) if is_plain else [f"#{number}" for number in range(1, len(labels) + 1)]


def _chinese_fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in _CHINESE if name in installed]
