"""Strings, labels and images: the items of a wire tensor <-> arrays of objects or indices."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mercato.v1 import tensor_pb2
from mercato_plugin import Field, Image, Label, Text
from mercato_server.contract.batch import Array
from mercato_server.rpc.images import BadImage, size_of

Fault = Callable[[str], Exception]


def decode_items(item: Field, tensor: tensor_pb2.Tensor, shape: tuple[int, ...], fault: Fault) -> tuple[Array, int]:
    """The items as an array of `shape` and how many rows were cut. Raises what `fault` makes."""
    items = list(tensor.items)
    count = math.prod(shape)
    if len(items) != count or tensor.data:
        raise fault(f"got {len(items)} items and {len(tensor.data)} bytes of data, expected {count} items and no data")
    match item:
        case Text():
            return _texts(item, items, shape, fault)
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


def _texts(item: Text, items: list[bytes], shape: tuple[int, ...], fault: Fault) -> tuple[Array, int]:
    too_long = [row for row, data in enumerate(items) if len(data) > item.max_bytes]
    if too_long and item.overflow == "refuse":
        row = too_long[0]
        raise fault(f"row {row} has {len(items[row])} bytes of UTF-8, expected at most {item.max_bytes}")
    array = np.empty(len(items), object)
    for row, data in enumerate(items):
        array[row] = _text(data, item.max_bytes, row, fault)
    return array.reshape(shape), len(too_long)


def _text(data: bytes, max_bytes: int, row: int, fault: Fault) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise fault(f"row {row} is not valid UTF-8") from None
    if "\0" in text:
        raise fault(f"row {row} has a NUL character")
    return text if len(data) <= max_bytes else data[:max_bytes].decode(errors="ignore")


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
