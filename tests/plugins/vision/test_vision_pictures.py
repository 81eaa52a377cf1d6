"""Decoding: whichever way a picture is stored, its pixels are what a person would see; damage costs its own row."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.plugins.vision.drawn import BLUE, RED, SIDE, corner, oriented, plain_cmyk, stored

from mercato_plugin import Batch
from mercato_vision import CategoryModel
from mercato_vision.pictures import MAX_PIXELS, BadPicture, Decoder, decode

UPRIGHT = np.asarray(corner())


def is_upright(pixels: object, within: int = 0) -> bool:
    """Compared away from the edge of the corner, where lossy formats blur."""
    difference = np.abs(np.asarray(pixels, int) - UPRIGHT)
    difference[SIDE // 4 - 4 : SIDE // 4 + 4] = 0
    difference[:, SIDE // 2 - 4 : SIDE // 2 + 4] = 0
    return bool(difference.max() <= within)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    assert is_upright(decode(oriented(orientation, kind), SIDE), within=8)


@pytest.mark.parametrize("orientation", [0, 9, 65535, "x"])
def test_an_orientation_that_is_none_is_upright(orientation: object) -> None:
    exif = Image.Exif()
    exif[0x0112 if isinstance(orientation, int) else 0x010E] = orientation
    assert is_upright(decode(stored(corner(), exif=exif), SIDE))


def test_a_damaged_exif_is_upright() -> None:
    assert is_upright(decode(stored(corner(), exif=b"Exif\0\0nonsense"), SIDE))


def test_inks_of_both_polarities() -> None:
    adobe = stored(corner().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in adobe and b"Adobe" not in plain_cmyk(corner())
    for data in (adobe, plain_cmyk(corner())):
        assert Image.open(io.BytesIO(data)).mode == "CMYK"
        assert is_upright(decode(data, SIDE), within=8)


def test_a_palette_and_its_transparent_colour() -> None:
    palette = corner().quantize(4)
    assert is_upright(decode(stored(palette), SIDE), within=2)
    red = int(np.asarray(palette)[0, 0])
    pixels = decode(stored(palette, transparency=red), SIDE)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.abs(pixels[-1, -1].astype(int) - BLUE).max() <= 2
    half = bytes(128 if entry == red else 255 for entry in range(4))
    assert np.abs(decode(stored(palette, transparency=half), SIDE)[0, 0].astype(int) - (238, 147, 142)).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_is_white(kind: str) -> None:
    image = corner().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.paste((*RED, 255), (0, 0, SIDE // 2, SIDE))
    pixels = decode(stored(image, kind, **({"lossless": True} if kind == "WEBP" else {})), SIDE)
    assert pixels[3, 3].tolist() == list(RED)
    assert pixels[3, -3].tolist() == [255, 255, 255]


def test_grey_with_and_without_alpha() -> None:
    grey = Image.new("L", (SIDE, SIDE), 90)
    assert (decode(stored(grey), SIDE) == 90).all()
    grey.putalpha(0)
    assert grey.mode == "LA" and (decode(stored(grey), SIDE) == 255).all()
    assert (decode(stored(Image.new("L", (SIDE, SIDE), 90), transparency=90), SIDE) == 255).all()
    assert (decode(stored(Image.new("1", (SIDE, SIDE), 1)), SIDE) == 255).all()
    assert (decode(stored(Image.new("L", (SIDE, SIDE), 90), "JPEG", quality=95), SIDE) == 90).all()


def test_sixteen_bits_of_grey() -> None:
    values = np.full((SIDE, SIDE), 40_000, np.uint16)
    values[:, SIDE // 2 :] = 300
    pixels = decode(stored(Image.fromarray(values)), SIDE)
    assert (pixels[:, :16] == 40_000 >> 8).all() and (pixels[:, -16:] == 1).all()
    clear = decode(stored(Image.fromarray(values), transparency=300), SIDE)
    assert (clear[:, -16:] == 255).all()


@pytest.mark.parametrize(("width", "height"), [(90, 40), (40, 90), (1, 1), (1, 301), (641, 480)])
def test_the_middle_square_is_scaled(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), RED)
    side = min(width, height)
    image.paste(BLUE, ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    pixels = decode(stored(image), SIDE)
    assert pixels.shape == (SIDE, SIDE, 3)
    # A square of one pixel is blurred by those beside it.
    assert np.abs(pixels[SIDE // 2, SIDE // 2].astype(int) - BLUE).max() <= 3


def test_a_large_jpeg_is_decoded_small() -> None:
    """The same picture within a few grey values, whether or not the decoder halves it on the way."""
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 255, (12, 16, 3), np.uint8)).resize(
        (1600, 1200), Image.Resampling.BICUBIC
    )
    whole = decode(stored(smooth), SIDE).astype(int)
    drafted = decode(stored(smooth, "JPEG", quality=95), SIDE).astype(int)
    assert np.abs(whole - drafted).mean() < 2


GOOD = stored(corner())
BAD = {
    "empty": b"",
    "text": b"no picture",
    "png cut short": GOOD[:-40],
    "png of its header": GOOD[:60],
    "jpeg cut short": stored(corner(800, 800), "JPEG")[:2000],
    "webp cut short": stored(corner(), "WEBP")[:60],
    "gif": stored(corner(), "GIF"),
    "tiff": stored(corner(), "TIFF"),
    "bmp": stored(corner(), "BMP"),
    "more pixels than its bytes": GOOD[:16] + (9000).to_bytes(4, "big") * 2 + GOOD[24:],
    "a bomb": GOOD[:16] + (60_000).to_bytes(4, "big") * 2 + GOOD[24:],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_damaged_or_of_another_format_is_refused(name: str) -> None:
    with pytest.raises(BadPicture, match="is damaged, cut short, or no JPEG, PNG or WebP picture|has .* pixels"):
        decode(BAD[name], SIDE)


def test_more_pixels_than_the_bound_are_not_decoded() -> None:
    data = stored(Image.new("1", (5001, 5000)))
    with pytest.raises(BadPicture, match=f"has 5001 x 5000 pixels, expected at most {MAX_PIXELS}"):
        decode(data, SIDE)


@pytest.mark.filterwarnings("ignore:Image size")
def test_damage_costs_its_own_row_alone() -> None:
    files = [GOOD, *BAD.values(), GOOD]
    found = Decoder(SIDE, threads=2).decode(files)
    assert is_upright(found[0]) and is_upright(found[-1])
    assert all(isinstance(picture, BadPicture) for picture in found[1:-1])
    batch = Batch({"image": np.array(files, object)}, len(files))
    model = CategoryModel()
    model.use(Decoder(SIDE), shown=2)
    pixels = model.preprocess(batch)["pixels"]
    assert (pixels.shape, pixels.dtype) == ((len(files), SIDE, SIDE, 3), np.uint8)
    assert sorted(batch.rejected) == list(range(1, len(files) - 1))
    assert {field for field, _ in batch.rejected.values()} == {"image"}
