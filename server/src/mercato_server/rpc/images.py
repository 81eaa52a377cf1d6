"""Encoded images seen from outside: format, width and height from a bounded look at the headers; nothing is decoded.

A library that opens an image also inflates its text chunks and walks all its metadata, which lets 64 KB
keep the event loop for 180 ms; here an image costs a few microseconds, and a bounded number of steps.
"""

from collections.abc import Sequence

MAX_SEGMENTS = 256
"""Parts of metadata that may stand before the pixels."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
# Start-of-frame markers; C4, C8 and CC are tables and a reserved one.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without content, and those that may not come before the frame.
_JPEG_LONE = frozenset({0x00, 0x01, *range(0xD0, 0xDB)})
_ZIP_END = b"PK\5\6"
_ZIP_REACH = 65_557
_PDF_REACH = 1024

Size = tuple[int, int]


class BadImage(ValueError):
    """The bytes are no image that is taken; the text says what was got and, where it helps, what was expected."""


def size_of(data: bytes, formats: Sequence[str] = ("jpeg", "png", "webp")) -> Size:
    """Width and height in pixels of an image in one of `formats`. Raises BadImage.

    An image of several frames, one that ends early, and one that is a ZIP or PDF file as well are refused.
    What the pixels are (CMYK, 16 bits, a palette, an orientation in EXIF) is not looked at.
    """
    kind = _kind(data)
    if kind not in formats:
        raise BadImage(f"is not one of {', '.join(formats)}")
    try:
        width, height = _SIZES[kind](data)
    except IndexError:
        raise BadImage(f"is a {kind} file that ends within its header") from None
    if not (width and height):
        raise BadImage(f"is a {kind} file without a size")
    if _is_document(data):
        raise BadImage("is a ZIP or PDF file as well as an image")
    return width, height


def pixels(data: bytes) -> int:
    """Pixels of an image that `size_of` takes: what it weighs in a batch."""
    width, height = size_of(data)
    return width * height


def _kind(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(_PNG_START):
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def _png_size(data: bytes) -> Size:
    """The header chunk comes first; what may animate it stands before the pixels."""
    if _number(data, 8, 4) != 13 or data[12:16] != b"IHDR":
        raise BadImage("is a png file whose first chunk is not its header")
    at = 33
    for _ in range(MAX_SEGMENTS):
        name = data[at + 4 : at + 8]
        if name == b"acTL" and _number(data, at + 8, 4) != 1:
            raise BadImage("is an animated png, expected one frame")
        if name == b"IDAT":
            if not data.endswith(_PNG_END):
                raise BadImage("is a png file that is cut short, or has bytes behind its end")
            return _number(data, 16, 4), _number(data, 20, 4)
        at += 12 + _number(data, at, 4)
    raise BadImage(f"has more than {MAX_SEGMENTS} chunks before its pixels")


def _jpeg_size(data: bytes) -> Size:
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if data[at] != 0xFF or marker in _JPEG_LONE:
            raise BadImage("is a jpeg file without a frame")
        if marker in _JPEG_FRAMES:
            if data.rfind(_JPEG_END) < at:
                raise BadImage("is a jpeg file that is cut short")
            return _number(data, at + 7, 2), _number(data, at + 5, 2)
        at += 2 + max(_number(data, at + 2, 2), 2)
    raise BadImage(f"has more than {MAX_SEGMENTS} segments before its pixels")


def _webp_size(data: bytes) -> Size:
    if len(data) - 8 - _little(data, 4, 4) not in (0, 1):  # some writers pad to an even size
        raise BadImage("is a webp file that is cut short, or has bytes behind its end")
    match data[12:16]:
        case b"VP8X":
            if data[20] & 2:
                raise BadImage("is an animated webp, expected one frame")
            return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
        case b"VP8L" if data[20] == 0x2F:
            bits = _little(data, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    raise BadImage("is a webp file without a frame")


_SIZES = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size}


def _is_document(data: bytes) -> bool:
    """A ZIP file is found from its end, a PDF file near its start, whatever stands before."""
    end = data.rfind(_ZIP_END, max(0, len(data) - _ZIP_REACH), len(data) - 18)
    is_zip = end >= 0 and end + 22 + _little(data, end + 20, 2) == len(data)
    return is_zip or data.find(b"%PDF-", 0, _PDF_REACH) >= 0


def _number(data: bytes, at: int, size: int) -> int:
    """A big-endian number. Raises IndexError behind the end."""
    return int.from_bytes(_piece(data, at, size), "big")


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_piece(data, at, size), "little")


def _piece(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]
