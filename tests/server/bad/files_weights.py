"""Weights of an encoder's folder that must not come through: what is done to `model.safetensors`, and what is said."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "model.safetensors"
NOT_WHOLE = "semantic.encoder: model.safetensors is not a whole safetensors file: "
NORM = "embeddings.LayerNorm.weight"


@dataclass(frozen=True)
class Row:
    """One way to spoil the file, given its header and its data."""

    number: int
    name: str
    change: Callable[[dict[str, Any], bytes], bytes]
    says: str

    def make(self, folder: Path) -> None:
        """Spoil the file in the folder."""
        content = (folder / FILE).read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        (folder / FILE).write_bytes(self.change(json.loads(content[8 : 8 + size]), content[8 + size :]))


def packed(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_facts(**facts: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    """Other facts of one tensor."""
    return lambda header, data: packed({**header, NORM: {**header[NORM], **facts}}, data)


def overlapping(header: dict[str, Any], data: bytes) -> bytes:
    first, second = [name for name in header if name != "__metadata__"][:2]
    return packed({**header, second: {**header[second], "data_offsets": header[first]["data_offsets"]}}, data)


def twice(header: dict[str, Any], data: bytes) -> bytes:
    """One name for two places, the second of which is not its own."""
    last = json.dumps({NORM: {**header[NORM], "data_offsets": [0, 128]}}).encode()
    return packed(json.dumps(header).encode()[:-1] + b"," + last[1:], data)


def as_whole_numbers(header: dict[str, Any], data: bytes) -> bytes:
    return with_facts(dtype="I32")(header, data)


ROWS = [
    Row(82, "empty", lambda header, data: b"", NOT_WHOLE),
    Row(82, "header of 2^63 bytes", lambda header, data: struct.pack("<Q", 2**63) + data, NOT_WHOLE),
    Row(82, "header longer than the file", lambda header, data: struct.pack("<Q", 10**7) + data, NOT_WHOLE),
    Row(82, "header not JSON", lambda header, data: packed(b"{" * 64, data), NOT_WHOLE),
    Row(82, "header not UTF-8", lambda header, data: packed(b'{"\xff": 1}', data), NOT_WHOLE),
    Row(82, "header nested deeply", lambda header, data: packed(b"[" * 10**5, data), NOT_WHOLE),
    Row(82, "overlapping offsets", overlapping, NOT_WHOLE),
    Row(82, "offsets past the end", with_facts(data_offsets=[0, 2**40]), NOT_WHOLE),
    Row(82, "offsets backwards", with_facts(data_offsets=[128, 0]), NOT_WHOLE),
    Row(82, "duplicate key", twice, NOT_WHOLE),
    Row(82, "shape that does not fit", with_facts(shape=[33]), NOT_WHOLE),
    Row(82, "shape that overflows", with_facts(shape=[2**62, 8]), NOT_WHOLE),
    Row(82, "unknown type", with_facts(dtype="F99"), NOT_WHOLE),
    Row(82, "another type of the same size", as_whole_numbers, f"{NORM} is torch.int32, expected a floating type"),
    Row(82, "trailing bytes", lambda header, data: packed(header, data + b"\0" * 8), NOT_WHOLE),
    Row(82, "cut short", lambda header, data: packed(header, data[:-1]), NOT_WHOLE),
    Row(82, "pickle", lambda header, data: b"\x80\x04cos\nsystem\n", NOT_WHOLE),
]
