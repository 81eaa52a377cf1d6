"""Changes to a request as a message: lengths and nesting stay right, so that fuzzing reaches what lies behind them."""

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from mercato.v1 import prediction_pb2

WHOLE = (0, 1, 2, 3, 4, 7, 8, 12, 14, 15, 16, 17, 64, 65, -1, 2**31 - 1, -(2**31))
LONG = (*WHOLE, 2**31, 2**32, 2**33, 2**62, 2**63 - 1, -(2**63))
NAMES = (
    "", "x", "y", "text", "ids", "key", "seq", "wide", "color", "note", "cut", "share", "bool", "int8", "bfloat16",
    "k", "scale", "word", "seed", "pricing.linear", "odd.kinds", "odd.table", "odd.text", "a\n", "鞋" * 9,
)  # fmt: skip
CONTENTS = (b"", b"\0", b"\1", b"\2", b"red", b"a\0b", b"\xff", b"\xed\xa0\x80", "鞋".encode() * 6, b"a" * 17)
NUMBERS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e308, float("nan"), float("inf"))
_F = FieldDescriptor
# Tensors lie two messages deep, and most of what can go wrong lies in them.
INWARD = 0.6


def mutated(data: bytes, seed: int, longest: int) -> bytes | None:
    """The request with one to four changes; None where the bytes are none, or have become too long."""
    chance = random.Random(seed)  # noqa: S311 - which change comes next is no secret
    try:
        message = prediction_pb2.PredictRequest.FromString(data)
    except DecodeError:
        return None
    for _ in range(chance.randint(1, 4)):
        change(message, chance)
    changed = message.SerializeToString()
    return changed if len(changed) <= longest else None


def change(message: Any, chance: random.Random) -> None:
    """Change one field of the message or of one inside it."""
    fields = message.DESCRIPTOR.fields
    inner = [item for item in fields if item.message_type is not None]
    item = chance.choice(inner if inner and chance.random() < INWARD else fields)
    if chance.random() < 0.1:
        message.ClearField(item.name)
    elif item.message_type is not None and item.message_type.GetOptions().map_entry:
        change(getattr(message, item.name)[chance.choice(NAMES)], chance)
    elif item.is_repeated:
        change_list(getattr(message, item.name), item, chance)
    elif item.message_type is not None:
        change(getattr(message, item.name), chance)
    else:
        setattr(message, item.name, value(item, chance))


def change_list(values: Any, item: FieldDescriptor, chance: random.Random) -> None:
    """Add an element, take one away, or change one."""
    at = chance.randrange(len(values)) if values else None
    if at is not None and chance.random() < 0.2:
        del values[at]
    elif item.message_type is not None:
        change(values.add() if at is None or chance.random() < 0.2 else values[at], chance)
    elif at is None or chance.random() < 0.3:
        values.append(value(item, chance))
    else:
        values[at] = value(item, chance)


def value(item: FieldDescriptor, chance: random.Random) -> Any:
    """A value of the field's type."""
    match item.type:
        case _F.TYPE_STRING:
            return chance.choice(NAMES)
        case _F.TYPE_BYTES:
            return chance.choice((*CONTENTS, chance.randbytes(chance.choice((4, 8, 16, 24)))))
        case _F.TYPE_BOOL:
            return chance.random() < 0.5
        case _F.TYPE_DOUBLE:
            return chance.choice(NUMBERS)
        case _F.TYPE_INT64:
            return chance.choice(LONG)
        case _F.TYPE_UINT32:
            return abs(chance.choice(WHOLE))
    return chance.choice(WHOLE)
