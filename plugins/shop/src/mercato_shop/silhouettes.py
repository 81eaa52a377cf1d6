"""The outline of each category's things: polygons in a square from -1 to 1, y pointing down, drawn in order."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
# A tone (`body` is the product's colour, the others follow from it or are fixed) and the polygon it fills.
Part = tuple[str, Points]


def polygon(*points: tuple[float, float]) -> Points:
    """Corners as an array (corners, 2)."""
    return np.array(points)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """A rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def arc(x: float, y: float, across: float, down: float, begin: float = 0.0, end: float = 360.0) -> Points:
    """Points on an ellipse around (x, y), clockwise from `begin` to `end` degrees; 0 is at the right."""
    turn = np.radians(np.linspace(begin, end, 24))
    return np.column_stack((x + across * np.cos(turn), y + down * np.sin(turn)))


def ring(x: float, y: float, radius: float, width: float, begin: float = 0.0, end: float = 360.0) -> Points:
    """A part of a ring, `width` wide, whose middle line has this radius."""
    outer, inner = radius + width / 2, radius - width / 2
    return np.concatenate((arc(x, y, outer, outer, begin, end), arc(x, y, inner, inner, begin, end)[::-1]))


def _laces() -> list[Part]:
    return [
        ("light", box(at, -0.28 + lift, at + 0.2, -0.2 + lift))
        for at, lift in ((-0.34, 0.0), (-0.24, 0.12), (-0.1, 0.24))
    ]


SILHOUETTES: Mapping[str, Sequence[Part]] = {
    "shoes": (
        ("body", polygon(
            (-0.88, 0.35), (-0.86, -0.35), (-0.62, -0.5), (-0.34, -0.46), (-0.08, -0.08), (0.36, 0.04), (0.8, 0.16),
            (0.9, 0.36),
        )),
        ("dark", polygon((-0.92, 0.32), (0.94, 0.32), (0.92, 0.52), (-0.88, 0.52))),
        ("shade", polygon((-0.86, -0.1), (-0.6, -0.1), (-0.55, 0.32), (-0.88, 0.32))),
        *_laces(),
    ),
    "shirts": (
        ("body", polygon(
            (-0.32, -0.72), (0.32, -0.72), (0.92, -0.36), (0.72, 0.02), (0.46, -0.14), (0.46, 0.8), (-0.46, 0.8),
            (-0.46, -0.14), (-0.72, 0.02), (-0.92, -0.36),
        )),
        ("shade", arc(0.0, -0.72, 0.24, 0.18, 0.0, 180.0)),
        ("shade", box(-0.46, 0.72, 0.46, 0.8)),
    ),
    "bags": (
        ("shade", ring(0.0, -0.25, 0.36, 0.12, 180.0, 360.0)),
        ("body", polygon((-0.62, -0.28), (0.62, -0.28), (0.72, 0.8), (-0.72, 0.8))),
        ("shade", polygon((-0.62, -0.28), (0.62, -0.28), (0.5, 0.18), (-0.5, 0.18))),
        ("metal", box(-0.1, 0.1, 0.1, 0.28)),
    ),
    "mugs": (
        ("body", ring(0.42, 0.08, 0.3, 0.14, -90.0, 90.0)),
        ("body", polygon((-0.62, -0.52), (0.46, -0.52), (0.4, 0.66), (-0.56, 0.66))),
        ("shade", arc(-0.08, -0.52, 0.54, 0.14)),
        ("light", box(-0.46, -0.2, -0.36, 0.5)),
    ),
    "lamps": (
        ("metal", box(-0.05, -0.1, 0.05, 0.78)),
        ("dark", arc(0.0, 0.8, 0.4, 0.1)),
        ("glow", polygon((-0.5, -0.1), (0.5, -0.1), (0.3, 0.06), (-0.3, 0.06))),
        ("body", polygon((-0.28, -0.85), (0.28, -0.85), (0.64, -0.1), (-0.64, -0.1))),
        ("shade", polygon((-0.28, -0.85), (0.28, -0.85), (0.32, -0.77), (-0.32, -0.77))),
    ),
    "watches": (
        ("shade", polygon((-0.2, -0.96), (0.2, -0.96), (0.26, 0.0), (0.2, 0.96), (-0.2, 0.96), (-0.26, 0.0))),
        ("body", arc(0.0, 0.0, 0.5, 0.5)),
        ("metal", box(0.48, -0.07, 0.58, 0.07)),
        ("light", arc(0.0, 0.0, 0.38, 0.38)),
        ("dark", polygon((-0.03, 0.04), (0.03, 0.04), (0.02, -0.28), (-0.02, -0.28))),
        ("dark", polygon((-0.03, -0.03), (0.22, 0.1), (0.2, 0.15), (-0.04, 0.04))),
    ),
    "headphones": (
        ("body", ring(0.0, 0.05, 0.7, 0.13, 180.0, 360.0)),
        ("dark", arc(-0.62, 0.3, 0.16, 0.34)),
        ("dark", arc(0.62, 0.3, 0.16, 0.34)),
        ("body", arc(-0.74, 0.3, 0.16, 0.38)),
        ("body", arc(0.74, 0.3, 0.16, 0.38)),
    ),
    "chairs": (
        ("dark", polygon((-0.5, 0.1), (-0.4, 0.1), (-0.5, 0.92), (-0.58, 0.92))),
        ("dark", polygon((0.5, 0.1), (0.4, 0.1), (0.5, 0.92), (0.58, 0.92))),
        ("body", polygon((-0.42, -0.92), (0.42, -0.92), (0.46, 0.0), (-0.46, 0.0))),
        ("shade", box(-0.22, -0.74, -0.14, -0.1)),
        ("shade", box(0.14, -0.74, 0.22, -0.1)),
        ("body", polygon((-0.5, 0.0), (0.5, 0.0), (0.62, 0.2), (-0.62, 0.2))),
        ("shade", box(-0.62, 0.2, 0.62, 0.27)),
    ),
    "bottles": (
        ("body", polygon(
            (-0.14, -0.66), (0.14, -0.66), (0.16, -0.5), (0.3, -0.32), (0.3, 0.94), (-0.3, 0.94), (-0.3, -0.32),
            (-0.16, -0.5),
        )),
        ("dark", box(-0.18, -0.94, 0.18, -0.66)),
        ("light", box(-0.3, 0.1, 0.3, 0.42)),
    ),
    "umbrellas": (
        ("metal", box(-0.03, -0.85, 0.03, 0.75)),
        ("dark", ring(0.12, 0.72, 0.14, 0.08, 0.0, 180.0)),
        ("body", np.concatenate((
            arc(0.0, 0.0, 0.92, 0.78, 180.0, 360.0), arc(0.61, 0.0, 0.31, 0.12, 0.0, -180.0),
            arc(0.0, 0.0, 0.3, 0.12, 0.0, -180.0), arc(-0.61, 0.0, 0.31, 0.12, 0.0, -180.0),
        ))),
        ("shade", polygon((-0.02, -0.78), (0.02, -0.78), (0.3, 0.0), (0.26, 0.0))),
        ("shade", polygon((-0.02, -0.78), (0.02, -0.78), (-0.26, 0.0), (-0.3, 0.0))),
    ),
}  # fmt: skip
