"""Bad input as data: what tensors must not be (39 to 69)."""

from typing import Any

import numpy as np
from grpc import StatusCode
from tests.server.bad.messages import OK, Answer, Row, accepted, first, kinds, parameter, x
from tests.server.bad.messages_plugin import KINDS, TABLE
from tests.server.calls import PRICING, STRING, pricing, request, tensor, texts

from mercato.v1 import prediction_pb2, tensor_pb2

DTYPE = {name.removeprefix("DATA_TYPE_"): number for name, number in tensor_pb2.DataType.items()}
SIZES = {"BOOL": 1, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2, "FP16": 2, "BF16": 2, "INT32": 4, "UINT32": 4,
    "FP32": 4, "INT64": 8, "UINT64": 8, "FP64": 8}  # fmt: skip
KIND = {"BOOL": "bool", "FP16": "float16", "BF16": "bfloat16", "FP64": "float64"} | {
    name: name.lower() for name in SIZES if "INT" in name
}
FULL = ("inputs.x",)


def named(name: str) -> tensor_pb2.NamedTensor:
    return tensor_pb2.NamedTensor(name=name)


def odd(number: int, name: str, *inputs: tensor_pb2.NamedTensor, **facts: Any) -> Row:
    """A row of the odd plugin with one good row of `x` and these inputs; the field at fault is the first of them."""
    fields = () if facts.get("code") is StatusCode.OK else (f"inputs.{inputs[0].name}",)
    return Row(number, name, kinds(*inputs), shared=False, **{"fields": fields, **facts})


def numbers(name: str, dtype: str, shape: list[int], data: bytes, **facts: Any) -> tensor_pb2.NamedTensor:
    return tensor(name, DTYPE[dtype], shape, data=data, **facts)


def pair(*values: float) -> prediction_pb2.PredictRequest:
    """x of the odd plugin, which takes any float."""
    return request(KINDS, tensor("x", shape=[1, 2], data=np.array(values, np.float32).tobytes()))


def bits(data: bytes) -> Any:
    """The answer's first output, bit by bit."""
    return lambda answer: answer.outputs[0].tensor.data == data


NAMES = [
    Row(39, "no input", request(PRICING), fields=FULL, says="missing"),
    Row(39, "input without a tensor", request(PRICING, named("x")), fields=FULL, says="got dtype unspecified"),
    Row(39, "only optional inputs", request(KINDS, numbers("int64", "INT64", [1], bytes(8))), shared=False,
        fields=FULL, says="missing"),
    Row(40, "an input more", request(PRICING, tensor("x"), tensor("z")), fields=("inputs",), says="no input 'z'"),
    Row(40, "another case", request(PRICING, tensor("X")), fields=("inputs", "inputs.x"), says="expected x"),
    Row(40, "30 000 inputs more", request(PRICING, *[named("👟" * 64)] * 30_000), fields=("inputs",)),
    Row(41, "an input twice", request(PRICING, tensor("x"), tensor("x")), fields=FULL, says="given twice"),
    Row(41, "an input 30 000 times", request(PRICING, *[named("x")] * 30_000), fields=FULL),
    odd(41, "an optional input twice", *[numbers("bool", "BOOL", [1], b"\1")] * 2, says="given twice"),
    Row(42, "an output twice", pricing([[4.0]], outputs=["y", "y"]), fields=("outputs",), says="twice"),
    Row(42, "60 000 times one output", pricing([[4.0]], outputs=["y"] * 60_000), fields=("outputs",), says="twice"),
    Row(43, "an unknown output", pricing([[4.0]], outputs=["z"]), fields=("outputs",), says="there are y"),
    Row(43, "an input as output", pricing([[4.0]], outputs=["x"]), fields=("outputs",), says="there are y"),
    Row(43, "an output without a name", pricing([[4.0]], outputs=[""]), fields=("outputs",), says="there are y"),
    *(
        Row(44, f"input name with {name}", request(PRICING, tensor("x"), named(text)), fields=("inputs",), says=says)
        for name, text, says in (
            ("NUL", "x\0", r"'x\x00'"), ("newline", "x\n", r"'x\n'"), ("RTL override", "\u202ex", r"'\u202ex'"),
            ("homoglyph", "\u0445", r"'\u0445'"), ("1 MiB", "n" * 2**20, "'" + "n" * 64 + "'"),
            ("space", " x", "' x'"), ("a path", "../x", "'../x'"), ("emoji", "👟", r"'\U0001f45f'"),
            ("nothing", "", "''"), ("escapes", "\x1b[31m", r"'\x1b[31m'"),
        )
    ),
    Row(44, "output name with NUL", pricing([[4.0]], outputs=["y\0"]), fields=("outputs",), says=r"'y\x00'"),
    Row(44, "output name of 1 MiB", pricing([[4.0]], outputs=["y" * 2**20]), fields=("outputs",)),
]  # fmt: skip

SHAPES = [
    Row(number, f"shape {shape if len(shape) < 9 else f'of rank {len(shape)}'}", x(shape), fields=FULL, says=says)
    for number, shape, says in (
        (45, [], "rank 0"), (45, [1], "rank 1"), (45, [1, 1, 1], "rank 3"), (46, [-1], "rank 1"),
        (46, [-1, 1], "[-1, 1]"), (46, [1, -1], "[1, -1]"), (46, [-1, -1], "[-1, -1]"), (47, [-1, 2], "[-1, 2]"),
        (48, [0, 1], "[0, 1]"), (48, [1, 0], "[1, 0]"), (49, [0, 2**62, 8], "rank 3"), (49, [0, 2**62], "[0, "),
        (50, [2**33, 2**33], str(2**33)), (50, [2**32, 2**32], str(2**32)), (51, [2**63 - 1], "rank 1"),
        (51, [2**63 - 1, 1], str(2**63 - 1)), (51, [-(2**63), 1], str(-(2**63))), (52, [1] * 65, "rank 65"),
        (52, [1] * 1000, "rank 1000"),
    )
] + [
    Row(48, "shape [0, 1] without data", x([0, 1], b""), fields=FULL, says="[0, 1]"),
    Row(48, "text of shape [0]", texts(shape=[0]), fields=("inputs.text",), says="[0]"),
    odd(45, "shape [] of an input of rank 1", numbers("int64", "INT64", [], bytes(8)), says="rank 0"),
    odd(45, "no batch axis where there is none", numbers("share", "FP32", [1, 3], bytes(12)), says="rank 2"),
    odd(45, "a batch axis of a shared ragged value", numbers("past", "INT64", [1, 1], bytes(8)), says="rank 2"),
    odd(47, "shape [-1, 2] of free axes", numbers("wide", "INT64", [1, -1, -2], bytes(16)), says="[1, -1, -2]"),
    odd(50, "free axes over their limit", numbers("wide", "INT64", [1, 2**33, 2**33], bytes(8)), says="width (1 to 8)"),
]  # fmt: skip

LENGTHS = [
    Row(53, "one byte short", x([1, 1], bytes(3)), fields=FULL, says="got 3 bytes"),
    Row(53, "one byte long", x([1, 1], bytes(5)), fields=FULL, says="expected 4 bytes"),
    Row(53, "no bytes", x([1, 1], b""), fields=FULL, says="got 0 bytes"),
    Row(53, "one row short", x([2, 1]), fields=FULL, says="expected 8 bytes"),
    Row(53, "one row more", x([1, 1], bytes(8)), fields=FULL, says="got 8 bytes"),
    Row(53, "10 MB for one row", x([1, 1], bytes(10_000_000)), fields=FULL, says="got 10000000 bytes"),
    Row(54, "bytes and items", x([1, 1], items=[b"a"]), fields=FULL, says="1 items"),
    Row(54, "items alone for numbers", x([1, 1], b"", items=[bytes(4)]), fields=FULL, says="1 items"),
    Row(54, "text as bytes and items", texts(b"a", data=b"a"), fields=("inputs.text",), says="no data"),
    Row(54, "text as bytes alone", texts(shape=[1], data=b"a"), fields=("inputs.text",), says="got 0 items"),
    Row(55, "row lengths of a rectangle", x([1, 1], row_lengths=[1]), fields=FULL, says="ragged"),
    Row(62, "more texts than rows", texts(b"a", b"b", shape=[1]), fields=("inputs.text",), says="expected 1 items"),
    Row(62, "fewer texts than rows", texts(b"a", shape=[2]), fields=("inputs.text",), says="expected 2 items"),
    Row(62, "texts of rank 2", texts(b"a", shape=[1, 1]), fields=("inputs.text",), says="rank 2"),
    odd(62, "no label", tensor("color", STRING, [1], items=[]), says="got 0 items"),
    odd(62, "an unknown label", tensor("color", STRING, [1], items=[b"blue"]), says="got 1 labels that are none"),
    odd(62, "a label's index", tensor("color", DTYPE["INT64"], [1], data=bytes(8)), says="expected string"),
    Row(63, "batch of 1025", x([1025, 1], bytes(4100)), fields=FULL, says="batch (1 to 1024)"),
    Row(63, "batch of 0", x([0, 1], b""), fields=FULL, says="batch (1 to 1024)"),
    Row(63, "1025 texts", texts(*[b"a"] * 1025), fields=("inputs.text",), says="1 to 1024"),
    odd(63, "inputs of two batch sizes", numbers("int64", "INT64", [2], bytes(16)), says="axis 'batch' is 2, but 1"),
]  # fmt: skip

DTYPES = [
    Row(56, f"{name} for FP32", x([1, 1], bytes(SIZES.get(name, 1)), dtype=number), fields=FULL,
        says="expected float32")
    for name, number in DTYPE.items()
    if name not in ("FP32", "UNSPECIFIED")
] + [
    odd(56, f"FP32 for {name}", tensor(KIND[name], DTYPE["FP32"], [1], data=bytes(4)), says=f"expected {KIND[name]}")
    for name in KIND
] + [
    odd(56, f"{wrong} for {right}", numbers(KIND[right], wrong, [1], bytes(SIZES[wrong])),
        says=f"expected {KIND[right]}")
    for right, wrong in (("INT32", "INT64"), ("INT64", "INT32"), ("FP64", "FP16"), ("INT64", "UINT64"),
        ("BOOL", "UINT8"), ("FP16", "BF16"), ("BF16", "FP16"))
] + [
    odd(57, f"{name} with the bytes of FP32", numbers(KIND[name], name, [1], bytes(4)), says="expected 2 bytes")
    for name in ("FP16", "BF16")
] + [
    odd(57, f"{name} as it should be", numbers(KIND[name], name, [1], bytes(2)), **OK) for name in ("FP16", "BF16")
] + [
    Row(56, "text for numbers", request(PRICING, tensor("x", STRING, [1, 1], items=[b"4"])), fields=FULL,
        says="got dtype string, expected float32"),
    odd(60, "an INT8 of two bytes", numbers("int8", "INT8", [1], bytes(2)), says="expected 1 bytes"),
    Row(61, "a length in front of a text", texts(b"\xff\xff\xff\xffred"), fields=("inputs.text",), says="UTF-8"),
]  # fmt: skip

ODD_FLOATS = (float("nan"), float("inf"), float("-inf"), 1e-45, -0.0, 3.4e38)
VALUES = [
    odd(58, "bool byte 2", numbers("bool", "BOOL", [1], b"\2"), says="other than 0 and 1"),
    odd(58, "bool byte 255", numbers("bool", "BOOL", [1], b"\xff"), says="other than 0 and 1"),
    Row(59, "NaN", pricing([[float("nan")]]), fields=FULL, says="NaN"),
    Row(59, "infinity in the second row", pricing([[1.0], [float("inf")]]), fields=FULL, says="infinity"),
    Row(59, "minus infinity", pricing([[float("-inf")]]), fields=FULL, says="infinity"),
    Row(59, "signalling NaN", x([1, 1], b"\1\0\x80\x7f"), fields=FULL, says="NaN"),
    accepted(59, "denormal", pricing([[1e-45]]), holds=lambda answer: np.isfinite(first(answer)[0])),
    accepted(59, "minus zero", pricing([[-0.0]]), holds=lambda answer: np.isfinite(first(answer)[0])),
    odd(59, "NaN in an optional input", tensor("finite", shape=[1, 2], data=b"\xff" * 8), says="NaN"),
    *(
        Row(59, f"{value} where any float is taken", pair(value, 1.0), shared=False, **OK,
            holds=bits(np.array([value, 1.0], np.float32).tobytes()))
        for value in ODD_FLOATS
    ),
    odd(59, "NaN where bounds are declared", numbers("share", "FP32", [3], b"\xff" * 12)),
    odd(64, "over the declared bounds", numbers("share", "FP32", [3], np.array([0, 1, 1.5], np.float32).tobytes()),
        says="outside 0 to 1"),
    odd(64, "under the declared bounds", numbers("share", "FP32", [3], np.array([0, -0.1, 1], np.float32).tobytes()),
        says="outside 0 to 1"),
    # Nobody can tell: it is another number, here one next to 0.
    accepted(66, "4.0 with its bytes swapped", x([1, 1], b"\x40\x80\0\0"), holds=lambda a: abs(first(a)[0]) < 1),
]  # fmt: skip

TEXTS = [
    Row(61, "text that is not UTF-8", texts(b"ok", b"\xff\xfe"), fields=("inputs.text",), says="row 1"),
    Row(61, "text with a lone surrogate", texts(b"\xed\xa0\x80"), fields=("inputs.text",), says="UTF-8"),
    Row(61, "text with NUL", texts(b"a\0b"), fields=("inputs.text",), says="NUL"),
    Row(65, "text of a byte too many", texts(b"a" * 8193), fields=("inputs.text",), says="at most 8192"),
    Row(65, "text of 10 MB", texts(b"a" * 10_000_000), fields=("inputs.text",), says="at most 8192"),
    odd(65, "text over a small limit", tensor("note", STRING, [1], items=["鞋".encode() * 6]), says="at most 16"),
    odd(65, "text that is cut", tensor("cut", STRING, [1], items=["鞋".encode() * 600]), **OK),
]


def seq(shape: list[int], lengths: list[int], count: int) -> tensor_pb2.NamedTensor:
    return tensor("seq", shape=shape, data=bytes(4 * count), row_lengths=lengths)


RAGGED = [
    odd(65, "row of 17", seq([1, 17], [17], 17), says="length (1 to 16)"),
    odd(65, "row of 2^40", seq([1, 2**40], [2**40], 1), says="length (1 to 16)"),
    odd(65, "shared value of 5", numbers("past", "INT64", [5], bytes(40)), says="past (0 to 4)"),
    odd(65, "shared value of no length", numbers("past", "INT64", [0], b""), **OK),
    odd(55, "a length of a shared value", numbers("past", "INT64", [1], bytes(8), row_lengths=[1]), says="ragged rows"),
    odd(55, "a row length too many", seq([1, 2], [2, 2], 2), says="got 2 row_lengths, expected 1"),
    odd(55, "the longest is not the largest", seq([1, 3], [2], 2), says="from 0 to 3"),
    odd(55, "a negative row length", seq([1, 1], [-1], 0)),
    odd(55, "a row length of 2^63-1", seq([1, 1], [2**63 - 1], 0)),
    odd(55, "bytes for a row less", seq([1, 2], [2], 1), says="expected 8 bytes"),
    odd(55, "an empty row", seq([1, 1], [0], 0)),
    odd(55, "no row lengths at all", seq([1, 2], [], 2), **OK),
]


def ids(*values: int, key: tuple[int, int] | None = None) -> prediction_pb2.PredictRequest:
    """Two indices into a table of five rows, and a key whose half is one."""
    given = [tensor("ids", DTYPE["INT64"], [1, 2], data=np.array(values, np.int64).tobytes())]
    if key is not None:
        given.append(tensor("key", DTYPE["INT64"], [1, 2], data=np.array(key, np.int64).tobytes()))
    return request(TABLE, *given)


def found(*values: float) -> Any:
    def holds(answer: Answer) -> bool:
        return first(answer) == list(values)

    return holds


IDS = [
    Row(64, f"id {wrong}, {why}", ids(wrong, 0), shared=False, fields=("inputs.ids",), says=says)
    for wrong, why, says in (
        (5, "over the declared high", "outside -inf to 4"), (2**63 - 1, "far over it", "outside -inf to 4"),
        (-6, "which the table itself refuses", "outside what the model's graph takes"),
        (-(2**63), "which the table itself refuses", "outside what the model's graph takes"),
    )
] + [
    Row(64, f"key {wrong}, whose half is outside the table", ids(0, 0, key=(0, wrong)), shared=False,
        fields=("inputs.near[0]",), says="outside 0 to 4 for the graph's input 'near'")
    for wrong in (10, -2, 2**63 - 1)
] + [
    Row(64, "id -1 counts from the end where no low is declared", ids(-1, -5), shared=False, **OK, holds=found(4, 0)),
    Row(64, "a key inside", ids(0, 1, key=(9, 8)), shared=False, **OK, holds=found(4, 5)),
]  # fmt: skip

PARAMETERS = [
    Row(67, f"k = {value!r}", kinds(parameters={"k": parameter(value)}), shared=False, fields=("parameters.k",),
        says="a whole number from 1 to 100")
    for value in (0, -1, 101, 2**31, 2**63 - 1, -(2**63), 1.0, True, "10")
] + [
    Row(69, "a plugin that writes into its input", kinds(parameters={"write": parameter(True)}), shared=False,
        code=StatusCode.INTERNAL, reason="PLUGIN_FAULT", facts={"model": KINDS}),
]  # fmt: skip

ROWS: list[Row] = [
    *NAMES, *SHAPES, *LENGTHS, *DTYPES, *VALUES, *TEXTS, *RAGGED, *IDS, *PARAMETERS,
    Row(68, "an odd number of bytes before the data", pair(1.0, 2.0).SerializeToString() + b"\x2a\3abc", shared=False,
        **OK, holds=bits(np.array([1, 2], np.float32).tobytes())),
]  # fmt: skip
