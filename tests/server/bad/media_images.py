"""Images that a caller may send: how each is made, and what the refusal says."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image as Picture

Make = Callable[[], bytes]

DISTRIBUTION = "mercato-eye"
MODEL = "test.eye"
MAX_PIXELS = 1_000_000
SOURCE = '''
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from mercato_plugin import Example, GraphSpec, Image, InvalidInput, Model, ModelSpec, Tensor, hookimpl

ROW = Tensor("float32", ("batch", 4))


class Eye(Model):
    """Width, height and two zeros; the pixels are decoded for it."""

    spec = ModelSpec(
        name="test.eye",
        inputs={"photo": Image(max_pixels=1_000_000, max_bytes=4 << 20, doc="a picture")},
        outputs={"size": ROW},
        graph=GraphSpec(inputs={"x": ROW}, outputs={"size": ROW}),
        doc="The size of a picture.",
    )

    def build(self, ctx):
        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in ("x", "size")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["size"])], "eye", rows[:1], rows[1:])
        path = Path(os.environ["EYE"]) / "eye.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path.write_bytes(made.SerializeToString())
        return path

    def examples(self, ctx):
        data = io.BytesIO()
        Picture.new("RGB", (8, 4)).save(data, "PNG")
        return [Example({"photo": [data.getvalue()]}, outputs={"size": [[8, 4, 0, 0]]})]

    def preprocess(self, batch):
        rows = np.zeros((batch.rows, 4), np.float32)
        for row, data in enumerate(batch.inputs["photo"]):
            try:
                with Picture.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as picture:
                    rows[row, :2] = picture.convert("RGB").size
            except Exception:
                raise InvalidInput("photo", "cannot be decoded", rows=[row])
        return {"x": rows}


@hookimpl
def mercato_models():
    return [Eye()]
'''


@dataclass(frozen=True)
class Row:
    """One file, and what the server says of it; without a `says` it is answered."""

    number: int
    name: str
    make: Make
    says: str = ""
    size: tuple[int, int] = (31, 17)


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (31, 17), **facts: Any) -> Make:
    """A picture of a mode and size, as Pillow writes it."""

    def make() -> bytes:
        data = io.BytesIO()
        Picture.new(mode, size).save(data, kind, **facts)
        return data.getvalue()

    return make


def frames(kind: str, count: int) -> Make:
    """An animation of small pictures, each of another colour."""

    def make() -> bytes:
        pictures = [Picture.new("RGB", (16, 16), (i % 256, i // 256, 7)) for i in range(count)]
        data = io.BytesIO()
        pictures[0].save(data, kind, save_all=True, append_images=pictures[1:])
        return data.getvalue()

    return make


def changed(make: Make, change: Callable[[bytes], bytes]) -> Make:
    return lambda: change(make())


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunks(*chunks: bytes) -> Make:
    """A PNG with chunks behind its header."""
    return changed(PNG, lambda data: data[:33] + b"".join(chunks) + data[33:])


def claiming(width: int, height: int) -> Make:
    """A PNG whose header claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return changed(PNG, lambda data: data[:8] + header + data[33:])


def jpeg_claiming(width: int, height: int) -> Make:
    def change(data: bytes) -> bytes:
        at = data.index(b"\xff\xc0")
        return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]

    return changed(JPEG, change)


def header_twice(data: bytes) -> bytes:
    """A PNG of one pixel, until its second header is read."""
    small = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    return data[:8] + small + large + data[33:]


def behind_frame(marker: int) -> Make:
    """A JPEG with a second frame of 9000 x 9000 behind its first, under a marker."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\xff\xc0")
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        frame = data[at + 4 : at + 5] + struct.pack(">HH", 9000, 9000) + data[at + 9 : end]
        return data[:end] + bytes([0xFF, marker]) + data[at + 2 : at + 4] + frame + data[end:]

    return changed(JPEG, change)


def hidden_frame(data: bytes) -> bytes:
    """A JPEG with a frame of 9000 x 9000 in a segment that some readers step over and others read."""
    at = data.index(b"\xff\xda")
    frame = b"\xff\xc0\0\x0b\x08" + struct.pack(">HH", 9000, 9000) + b"\1\1\x11\0"
    return data[:at] + b"\xff\xf0" + struct.pack(">H", len(frame) + 2) + frame + data[at:]


def canvas(width: int, height: int) -> Make:
    """A WebP whose canvas claims another size than its frame has."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return changed(saved("WEBP", exif=b"Exif\0\0abc"), lambda data: data[:24] + sizes + data[30:])


def canvas_twice(data: bytes) -> bytes:
    return resized(data[:30] + data[12:24] + (999).to_bytes(3, "little") * 2 + data[30:])


def resized(data: bytes) -> bytes:
    """A WebP with its length put right."""
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def unnamed_parts(data: bytes) -> bytes:
    """A WebP with a thousand chunks before its frame."""
    return resized(data[:30] + b"none\1\0\0\0xx" * 1000 + data[30:])


def zipped(make: Make) -> Make:
    """The picture, which is a ZIP file as well."""

    def change(data: bytes) -> bytes:
        out = io.BytesIO(data)
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr("run.js", "1")
        return out.getvalue()

    return changed(make, change)


def noise() -> bytes:
    """A megapixel with as much in it as there can be."""
    data = io.BytesIO()
    Picture.effect_noise((1000, 1000), 90).convert("RGB").save(data, "JPEG")
    return data.getvalue()


JPEG, PNG, WEBP = saved("JPEG"), saved("PNG"), saved("WEBP")
EXTENDED = saved("WEBP", exif=b"Exif\0\0abc")
TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))
PROFILE = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(64 << 20), 9))
TURNED = Picture.Exif()
TURNED[0x0112] = 6
NONE_OF = "is not one of jpeg, png, webp"
CUT_OR_MORE = "that is cut short, or has bytes behind its end"

ROWS = [
    Row(85, "JPEG of 65535 x 65535", jpeg_claiming(65535, 65535), "has 65535 x 65535 pixels, expected at most 1000000"),
    Row(85, "PNG of 2^31-1 x 2^31-1", claiming(2**31 - 1, 2**31 - 1), "2147483647 pixels, expected at most 1000000"),
    Row(85, "PNG of a pixel too many", saved("PNG", "1", (1_000_001, 1)), "has 1000001 x 1 pixels"),
    Row(85, "PNG without a size", claiming(0, 7), "is a png file without a size"),
    Row(85, "JPEG without a height", jpeg_claiming(9, 0), "is a jpeg file without a size"),
    Row(85, "PNG with two headers", changed(PNG, header_twice), "is a png file with two headers"),
    Row(85, "JPEG with two frames", behind_frame(0xC0), "is a jpeg file with two frames"),
    Row(85, "JPEG with frames of two kinds", behind_frame(0xC2), "is a jpeg file with two frames"),
    Row(85, "JPEG of several resolutions", behind_frame(0xDE), "with segment 0xDE before its pixels"),
    Row(85, "JPEG with a frame in a segment", changed(JPEG, hidden_frame), "with segment 0xF0 before its pixels"),
    Row(85, "WebP with a small canvas", canvas(1, 1), "is a webp file of 1 x 1 pixels with a frame of 31 x 17"),
    Row(85, "WebP with a large canvas", canvas(99, 99), "is a webp file of 99 x 99 pixels with a frame of 31 x 17"),
    Row(85, "WebP with two canvases", changed(EXTENDED, canvas_twice), "is a webp file with two headers"),
    Row(85, "a thousand chunks in a WebP", changed(EXTENDED, unnamed_parts), "has more than 256 chunks before"),
    Row(85, "bomb of pixels", saved("PNG", "1", (20_000, 20_000)), "has 20000 x 20000 pixels"),
    Row(85, "bomb in text chunks", with_chunks(*[TEXT] * 300), "more than 256 chunks before its pixels"),
    Row(85, "bomb in a colour profile", with_chunks(PROFILE), "inputs.photo[0]: cannot be decoded"),
    Row(85, "a million comments", changed(JPEG, lambda d: d[:2] + b"\xff\xfe\0\2" * 10**6 + d[2:]), "256 segments"),
    Row(85, "a million paddings", changed(JPEG, lambda d: d[:2] + b"\xff" * 10**6 + d[2:]), "more than 256 segments"),
    Row(85, "animated WebP", frames("WEBP", 20), "is an animated webp, expected one frame"),
    Row(85, "animated PNG", frames("PNG", 20), "is an animated png, expected one frame"),
    Row(85, "animated GIF of 10^4 frames", frames("GIF", 10_000), NONE_OF),
    Row(85, "JPEG cut in its header", changed(JPEG, lambda data: data[:40]), "ends within its header"),
    Row(85, "JPEG cut before its pixels", changed(JPEG, lambda data: data[:-40]), "ends within its header"),
    Row(85, "JPEG cut in its pixels", changed(JPEG, lambda data: data[:-4]), "is a jpeg file that is cut short"),
    Row(85, "PNG cut in its header", changed(PNG, lambda data: data[:20]), "ends within its header"),
    Row(85, "PNG cut in its pixels", changed(PNG, lambda data: data[:-20]), CUT_OR_MORE),
    Row(85, "WebP cut in its header", changed(WEBP, lambda data: data[:14]), "webp file"),
    Row(85, "WebP cut in its pixels", changed(WEBP, lambda data: data[:-8]), CUT_OR_MORE),
    Row(85, "three bytes", lambda: b"\xff\xd8\xff", "ends within its header"),
    Row(85, "no bytes", lambda: b"", NONE_OF),
    Row(85, "JPEG and ZIP", zipped(JPEG), "is a ZIP or PDF file as well as an image"),
    Row(85, "PNG and ZIP", zipped(PNG), CUT_OR_MORE),
    Row(85, "WebP and ZIP", zipped(WEBP), CUT_OR_MORE),
    Row(85, "JPEG and PDF", changed(JPEG, lambda d: d[:2] + b"\xff\xfe\0\x0b%PDF-1.7\n" + d[2:]), "ZIP or PDF"),
    Row(85, "SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', NONE_OF),
    Row(85, "PSD", lambda: b"8BPS\0\1" + bytes(20), NONE_OF),
    Row(85, "FITS", lambda: b"SIMPLE  =                    T" + bytes(2850), NONE_OF),
    Row(85, "EPS", saved("EPS"), NONE_OF),
    Row(85, "TIFF", saved("TIFF"), NONE_OF),
    Row(85, "BMP", saved("BMP"), NONE_OF),
    Row(85, "five megabytes", lambda: JPEG() + bytes(5 << 20), "bytes, expected at most 4194304"),
    Row(85, "garbage behind a good header", changed(PNG, lambda d: d[:41] + bytes(9) + d[50:]), "cannot be decoded"),
    Row(85, "JPEG", JPEG),
    Row(85, "PNG", PNG),
    Row(85, "WebP", WEBP),
    Row(85, "WebP without loss", saved("WEBP", "RGBA", lossless=True)),
    Row(85, "WebP with metadata", EXTENDED),
    Row(85, "WebP with transparency", saved("WEBP", "RGBA", exif=b"Exif\0\0abc", icc_profile=b"odd")),
    Row(85, "progressive JPEG", saved("JPEG", progressive=True)),
    Row(85, "CMYK", saved("JPEG", "CMYK")),
    Row(85, "16 bits", saved("PNG", "I;16")),
    Row(85, "palette", saved("PNG", "P")),
    Row(85, "one bit", saved("PNG", "1")),
    Row(85, "EXIF says turned", saved("JPEG", exif=TURNED)),
    Row(85, "a million pixels", noise, size=(1000, 1000)),
    Row(85, "a million pixels in a row", saved("PNG", "1", (1_000_000, 1)), size=(1_000_000, 1)),
]
