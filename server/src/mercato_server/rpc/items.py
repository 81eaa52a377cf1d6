"""Strings, labels and images: the items of a wire tensor <-> arrays of objects or indices."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato.v1 import tensor_pb2
from mercato_plugin import Field, Image, Label, Text
from mercato_server.contract.batch import Array
from mercato_server.rpc.images import BadImage, size_of

Fault = Callable[[str], Exception]
Lengths = npt.NDArray[np.int64]


def decode_items(
    item: Field, tensor: tensor_pb2.Tensor, shape: tuple[int, ...], fault: Fault, lengths: Lengths | None = None
) -> tuple[Array, int]:
    """The items as an array of `shape` and how many rows were cut; of ragged rows back to back, which have `lengths`.

    Raises what `fault` makes.
    """
    items = list(tensor.items)
    count = math.prod(shape)
    if len(items) != count or tensor.data:
        raise fault(f"got {len(items)} items and {len(tensor.data)} bytes of data, expected {count} items and no data")
    match item:
        case Text():
            return _texts(item, items, shape, fault, lengths)
        case Label():
            return _indices(item, items, shape, fault), 0
        case Image():
            return _images(item, items, shape, fault), 0
    raise AssertionError(f"{item.kind} has no items")


def encode_items(item: Field, array: Array) -> list[bytes]:
    """The items of an output: labels by name, text as UTF-8, images as they are."""
    values: list[Any] = array.ravel().tolist()
    if isinstance(item, Label):
        return [item.names[index].encode() for index in values]
    return [value.encode() for value in values] if isinstance(item, Text) else values


def _texts(
    item: Text, items: list[bytes], shape: tuple[int, ...], fault: Fault, lengths: Lengths | None
) -> tuple[Array, int]:
    too_long = [place for place, data in enumerate(items) if len(data) > item.max_bytes]
    if too_long and item.overflow == "refuse":
        size = len(items[too_long[0]])
        raise fault(f"{_told(too_long[0], lengths)} has {size} bytes of UTF-8, expected at most {item.max_bytes}")
    array = np.empty(len(items), object)
    for place, data in enumerate(items):
        array[place] = _text(data, item.max_bytes, place, fault, lengths)
    return array.reshape(shape), len(too_long if lengths is None else set(map(_row_in(lengths), too_long)))


def _text(data: bytes, max_bytes: int, place: int, fault: Fault, lengths: Lengths | None) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise fault(f"{_told(place, lengths)} is not valid UTF-8") from None
    if "\0" in text:
        raise fault(f"{_told(place, lengths)} has a NUL character")
    return text if len(data) <= max_bytes else data[:max_bytes].decode(errors="ignore")


def _row_in(lengths: Lengths) -> Callable[[int], int]:
    """From the place of an item among all to its row."""
    ends = np.cumsum(lengths)
    return lambda place: int(np.searchsorted(ends, place, side="right"))


def _told(place: int, lengths: Lengths | None) -> str:
    """Where an item stands, in a caller's words."""
    if lengths is None:
        return f"row {place}"
    row = _row_in(lengths)(place)
    return f"row {row}, string {place - int(lengths[:row].sum())},"


def _indices(item: Label, items: list[bytes], shape: tuple[int, ...], fault: Fault) -> Array:
    index = {name.encode(): position for position, name in enumerate(item.names)}
    unknown = [data for data in items if data not in index]
    if unknown:
        raise fault(f"got {len(unknown)} labels that are none of the {len(index)} known ones")
    return np.fromiter((index[data] for data in items), np.int64, len(items)).reshape(shape)


def _images(item: Image, items: list[bytes], shape: tuple[int, ...], fault: Fault) -> Array:
    array = np.empty(len(items), object)
    for row, data in enumerate(items):
        if len(data) > item.max_bytes:
            raise fault(f"row {row} has {len(data)} bytes, expected at most {item.max_bytes}")
        try:
            width, height = size_of(data, item.formats)
        except BadImage as error:
            raise fault(f"row {row} {error}") from None
        if width * height > item.max_pixels:
            raise fault(f"row {row} has {width} x {height} pixels, expected at most {item.max_pixels}")
        array[row] = data
    return array.reshape(shape)
