"""Pictures for the tests: a corner whose place tells how a picture lies, in every way of storing it; digits as PNG."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 40
RED, BLUE = (220, 40, 30), (20, 60, 200)

# For each value of EXIF's orientation: what was done to the upright picture before it was stored.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def corner(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Blue, with a red corner at the top left that reaches further right than down."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height // 4))
    return image


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation: int, kind: str) -> bytes:
    """The corner, stored turned, with the orientation that says how to turn it back."""
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = corner() if turn is None else corner().transpose(turn)
    return stored(image, kind, exif=exif, quality=100, subsampling=0, lossless=True)


def plain_cmyk(image: Image.Image) -> bytes:
    """A CMYK JPEG without Adobe's mark: its inks are stored as they are."""
    inks = image.convert("CMYK")
    marked = stored(Image.eval(inks, lambda value: 255 - value), "JPEG", quality=95)
    start = marked.index(b"\xff\xee")
    length = int.from_bytes(marked[start + 2 : start + 4], "big")
    return marked[:start] + marked[start + 2 + length :]


def write_digits(folder: Path, count: int) -> Path:
    """The first of scikit-learn's handwritten digits as PNG files, one folder per digit."""
    found: Any = load_digits()
    for number, (pixels, digit) in enumerate(zip(found.images[:count], found.target, strict=False)):
        path = folder / f"{digit}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8)).save(path)
    return folder
