"""images/*.png: each product as a small picture, its category's outline in its colour before a plain wall."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mercato_shop.catalogue import Catalogue
from mercato_shop.ids import product_ids
from mercato_shop.kinds import COLOURS, KINDS
from mercato_shop.plan import Plan
from mercato_shop.silhouettes import SILHOUETTES, Points

SIZE = 96
# Drawn larger by this factor and averaged, for smooth edges.
FINER = 2
WALLS = (
    (246, 246, 244), (232, 236, 240), (240, 230, 220), (222, 234, 226), (236, 226, 238), (206, 212, 218),
    (250, 240, 214), (184, 194, 200),
)  # fmt: skip
# Half the outline's size, as a share of the picture's; degrees of rotation; shift as a share; stretch of each axis.
REACH, TILT, SHIFT, STRETCH = (0.30, 0.42), 24.0, 0.09, (0.86, 1.14)
# This share of the pixels is lighter or darker by this much.
NOISY, NOISE = 0.2, 7
FIXED = {"dark": (52, 50, 54), "metal": (176, 180, 184), "glow": (255, 236, 170)}

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Pose:
    """How an outline is laid into the picture: a matrix (2, 2) and the pixel of its middle."""

    matrix: Points
    middle: Points

    def place(self, points: Points) -> list[tuple[float, float]]:
        """Corners in pixels."""
        return [(float(x), float(y)) for x, y in points @ self.matrix.T + self.middle]


def draw_picture(plan: Plan, catalogue: Catalogue, product: int) -> Image.Image:
    """The picture of one product, 96 by 96, RGB."""
    rng = plan.stream(f"picture/{product}")
    image = _wall(rng)
    pen, pose = ImageDraw.Draw(image), _pose(rng)
    tones = _tones(rng, COLOURS[tuple(COLOURS)[catalogue.colour[product]]])
    for tone, points in SILHOUETTES[KINDS[catalogue.kind[product]]]:
        pen.polygon(
            pose.place(points), fill=tones[tone], outline=tones["edge"] if tone == "body" else None, width=FINER
        )
    return _noisy(rng, image.reduce(FINER))


def write_picture(plan: Plan, catalogue: Catalogue, product: int, folder: Path) -> int:
    """Write one product's picture into the folder, and return its size in bytes."""
    [name] = product_ids([product])
    path = folder / f"{name}.png"
    draw_picture(plan, catalogue, product).save(path, compress_level=6)
    return path.stat().st_size


def _wall(rng: np.random.Generator) -> Image.Image:
    """A wall, and a floor a little darker."""
    wall, side = np.array(WALLS[rng.integers(len(WALLS))]), SIZE * FINER
    floor = int(side * rng.uniform(0.62, 0.95))
    image = Image.new("RGB", (side, side), _colour(wall))
    image.paste(_colour(wall * rng.uniform(0.84, 0.97)), (0, floor, side, side))
    return image


def _pose(rng: np.random.Generator) -> Pose:
    side, turn = SIZE * FINER, np.radians(rng.uniform(-TILT, TILT))
    cosine, sine = np.cos(turn), np.sin(turn)
    scale = np.diag(rng.uniform(*STRETCH, 2) * (rng.choice((-1.0, 1.0)), 1.0)) * rng.uniform(*REACH) * side
    middle = side * (0.5 + rng.uniform(-SHIFT, SHIFT, 2))
    return Pose(np.array(((cosine, -sine), (sine, cosine))) @ scale, middle)


def _tones(rng: np.random.Generator, colour: Colour) -> dict[str, Colour]:
    body = np.array(colour) * rng.uniform(0.88, 1.12)
    return {
        **FIXED,
        "body": _colour(body),
        "shade": _colour(body * 0.68),
        "edge": _colour(body * 0.5),
        "light": _colour(body * 0.35 + 162),
    }


def _colour(values: NDArray[np.float64] | NDArray[np.int64]) -> Colour:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue


def _noisy(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    roll = rng.random((SIZE, SIZE, 1))
    noise = NOISE * ((roll < NOISY / 2).astype(np.int16) - (roll > 1 - NOISY / 2))
    return Image.fromarray(np.clip(np.asarray(image).astype(np.int16) + noise, 0, 255).astype(np.uint8))
