"""Encoded images seen from outside: format, width and height from a bounded look at the headers; nothing is decoded.

A library that opens an image also inflates its text chunks and walks all its metadata, which lets 64 KB
keep the event loop for 180 ms; here an image costs a few microseconds, and a bounded number of steps.
"""

from collections.abc import Sequence

MAX_SEGMENTS = 256
"""Parts of a file that may stand before its pixels."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
# Start-of-frame markers; C4, C8 and CC are tables and a reserved one.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# What else may stand before the pixels: tables, restarts, applications' data, comments. Readers differ in which other
# segments they step over, so that a frame within one of those is seen by some alone.
_JPEG_OTHERS = frozenset({0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
_JPEG_PIXELS = 0xDA
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
        if name == b"IHDR":  # readers keep the last one
            raise BadImage("is a png file with two headers")
        if name == b"acTL" and _number(data, at + 8, 4) != 1:
            raise BadImage("is an animated png, expected one frame")
        if name == b"IDAT":
            if not data.endswith(_PNG_END):
                raise BadImage("is a png file that is cut short, or has bytes behind its end")
            return _number(data, 16, 4), _number(data, 20, 4)
        at += 12 + _number(data, at, 4)
    raise BadImage(f"has more than {MAX_SEGMENTS} chunks before its pixels")


def _jpeg_size(data: bytes) -> Size:
    """The frame stands somewhere before the pixels; readers keep the last one."""
    at, frame = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if data[at] != 0xFF or (marker == _JPEG_PIXELS and not frame):
            raise BadImage("is a jpeg file without a frame")
        if marker == _JPEG_PIXELS:
            return _jpeg_frame(data, frame, at)
        frame = _next_frame(marker, at, frame)
        at += 2 + max(_number(data, at + 2, 2), 2)
    raise BadImage(f"has more than {MAX_SEGMENTS} segments before its pixels")


def _next_frame(marker: int, at: int, frame: int) -> int:
    """Where the frame stands once the segment at `at` is known; 0 is nowhere."""
    if marker in _JPEG_FRAMES:
        if frame:
            raise BadImage("is a jpeg file with two frames")
        return at
    if marker not in _JPEG_OTHERS:
        raise BadImage(f"is a jpeg file with segment 0x{marker:02X} before its pixels")
    return frame


def _jpeg_frame(data: bytes, frame: int, pixels_at: int) -> Size:
    if data.rfind(_JPEG_END) < pixels_at:
        raise BadImage("is a jpeg file that is cut short")
    return _number(data, frame + 7, 2), _number(data, frame + 5, 2)


def _webp_size(data: bytes) -> Size:
    if len(data) - 8 - _little(data, 4, 4) not in (0, 1):  # some writers pad to an even size
        raise BadImage("is a webp file that is cut short, or has bytes behind its end")
    if data[12:16] != b"VP8X":
        return _webp_frame(data, 12)
    if data[20] & 2:
        raise BadImage("is an animated webp, expected one frame")
    width, height = _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
    frame = _webp_frame(data, _frame_of_canvas(data))
    if frame != (width, height):  # a reader may go by either
        raise BadImage(f"is a webp file of {width} x {height} pixels with a frame of {frame[0]} x {frame[1]}")
    return frame


def _frame_of_canvas(data: bytes) -> int:
    """Where the frame stands behind the header of a WebP file with metadata."""
    at = 12
    for _ in range(MAX_SEGMENTS):
        size = _little(data, at + 4, 4)
        at += 8 + size + size % 2
        name = data[at : at + 4]
        if name == b"VP8X":
            raise BadImage("is a webp file with two headers")
        if name in (b"VP8L", b"VP8 "):
            return at
    raise BadImage(f"has more than {MAX_SEGMENTS} chunks before its pixels")


def _webp_frame(data: bytes, at: int) -> Size:
    match data[at : at + 4]:
        case b"VP8L" if data[at + 8] == 0x2F:
            bits = _little(data, at + 9, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if data[at + 11 : at + 14] == b"\x9d\x01\x2a":
            return _little(data, at + 14, 2) & 0x3FFF, _little(data, at + 16, 2) & 0x3FFF
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
