"""Files of pictures to pixels: JPEG, PNG and WebP to upright squares of RGB on white; needs numpy and Pillow alone."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 25_000_000
"""Pixels of one picture, at most, counted before it is decoded."""

REDUCED = 2
"""A JPEG is decoded at half, a quarter or an eighth of its size where that leaves this many times the pixels needed."""

MAX_THREADS = 8

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPicture(ValueError):
    """The bytes cannot be decoded; the text says why in words for the caller."""


class Decoder:
    """Decodes many pictures at once on a few threads: Pillow lets go of the interpreter while it decodes and scales."""

    def __init__(self, size: int, threads: int | None = None) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(threads or min(MAX_THREADS, _cores()), thread_name_prefix="decode")

    def decode(self, files: Sequence[bytes]) -> list[Pixels | BadPicture]:
        """A picture of shape (size, size, 3) for each file, or why there is none."""
        if len(files) == 1:
            return [self._one(files[0])]
        return list(self._pool.map(self._one, files))

    def _one(self, data: bytes) -> Pixels | BadPicture:
        try:
            return decode(data, self.size)
        except BadPicture as error:
            return error


def decode(data: bytes, size: int) -> Pixels:
    """The middle square of a picture, scaled to (size, size, 3), uint8 RGB.

    EXIF's orientation is applied, what is transparent becomes white, profiles of colour are not looked at, and of
    several frames the first counts. Raises BadPicture.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _pixels(image, size)
    except (BadPicture, MemoryError):
        raise
    except Exception:  # decoders raise nearly anything on damaged bytes; such a file costs its own row alone
        raise BadPicture("is damaged, cut short, or no JPEG, PNG or WebP picture") from None


def _pixels(image: Image.Image, size: int) -> Pixels:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadPicture(f"has {width} x {height} pixels, expected at most {MAX_PIXELS}")
    image.draft(None, (REDUCED * size, REDUCED * size))
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    square = _scaled(_on_white(image), size)
    # A middle square is turned as well after scaling as before, with fewer pixels.
    return np.asarray(square if turn is None else square.transpose(turn))


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 where it is absent or damaged."""
    try:
        found: Any = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever stands there, the pixels are whole
        return 1
    return found if isinstance(found, int) else 1


def _on_white(image: Image.Image) -> Image.Image:
    """As RGB, with white behind it."""
    if image.mode.startswith("I"):
        return _from_deep(image)
    if image.mode == "CMYK":
        return _from_inks(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    front = image.convert("RGBA")
    behind = Image.new("RGBA", front.size, "white")
    return Image.alpha_composite(behind, front).convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """16 bits of grey: the upper eight. Pillow's own conversion clips at 255 instead."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    clear: Any = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_inks(image: Image.Image) -> Image.Image:
    """Pillow takes every CMYK JPEG for one of Adobe's, whose values are inverted; those without its mark are not."""
    return image if "adobe" in image.info else ImageChops.invert(image)


def _scaled(image: Image.Image, size: int) -> Image.Image:
    """The middle square."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=REDUCED)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
