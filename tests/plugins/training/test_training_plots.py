"""Plots are PNG files, the same for the same figures, also with labels that no font here can write."""

from pathlib import Path

import numpy as np
import pytest

from mercato_training import Confusion, Fit, plots

COUNTS = np.array([[5, 1], [0, 4]])


@pytest.mark.parametrize("labels", [("good", "bad"), ("好评", "差评")])
def test_a_confusion_is_drawn_twice_alike(labels: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.confusion(Confusion(labels, COUNTS), "reviews 1", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_many_labels_and_many_points_are_drawn(tmp_path: Path) -> None:
    many = Confusion(tuple(map(str, range(60))), np.eye(60, dtype=np.int64))
    plots.confusion(many, "many", tmp_path / "many.png")
    plots.fit(Fit(np.arange(20_000.0), np.arange(20_000.0)), "line", tmp_path / "fit.png")
    plots.bars({"a 1": {"mse": 2.0, "r2": 0.5}, "a 2": {"mse": 1.0}}, tmp_path / "bars.png")
    assert len(list(tmp_path.glob("*.png"))) == 3
