"""Ready ONNX files that must not come through: how each is made, and what the model's reason says."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODEL = "model.onnx"
DATA = "weights.bin"
WEIGHT = np.full((1, 4), 2.0, np.float32)

DISTRIBUTION = "mercato-ready"
SOURCE = '''
import os
from pathlib import Path

from mercato_plugin import Model, ModelSpec, Tensor, hookimpl

ROW = Tensor("float32", ("batch", 4))


class Ready(Model):
    """One ready ONNX file."""

    def __init__(self, folder):
        self._folder = folder
        self.spec = ModelSpec(name=f"ready.{folder.name}", inputs={"x": ROW}, outputs={"y": ROW})

    def build(self, ctx):
        return self._folder / "model.onnx"

    def examples(self, ctx):
        return []


@hookimpl
def mercato_models():
    return [Ready(folder) for folder in sorted(Path(os.environ["READY"]).iterdir())]
'''


@dataclass(frozen=True)
class Row:
    """One file: `make` writes it into a folder; an empty `code` stands for a model that serves."""

    number: int
    name: str
    make: Callable[[Path], object]
    says: str
    code: str = "EXPORT_FAILED"

    @property
    def model(self) -> str:
        return "ready." + "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())


def node(op: str, *inputs: str, to: str = "y", **facts: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [to], **facts)


def weight(array: Any = WEIGHT, name: str = "w") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[onnx.NodeProto] = (node("Mul", "x", "w"),),
    weights: Sequence[onnx.TensorProto] = (weight(),),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 20,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """y = 2 x, unless told otherwise."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y"))
    return helper.make_model(
        helper.make_graph(nodes, "ready", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)],
        ir_version=10,
        functions=functions,
    )


def wrote(made: onnx.ModelProto | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / MODEL).write_bytes(made if isinstance(made, bytes) else made.SerializeToString())


def external(
    location: str = DATA, *, count: int = 1, content: bytes | None = WEIGHT.tobytes(), **entries: Any
) -> Callable[[Path], object]:
    """Weights in a file beside; `entries` add to or replace what is said of where they lie."""
    tensors = [TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[1, 4]) for i in range(count)]
    for number, tensor in enumerate(tensors):
        tensor.data_location = TensorProto.EXTERNAL
        facts = {"location": location, "offset": 8 * number, "length": 16, **entries}
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in facts.items())
    steps = [node("Mul", "x" if i == 0 else f"y{i}", f"w{i}", to=f"y{i + 1}") for i in range(count)]
    made = model([*steps, node("Identity", f"y{count}")], tensors)

    def make(folder: Path) -> None:
        wrote(made)(folder)
        if content is not None:
            (folder / DATA).write_bytes(content)

    return make


def linked(kind: Callable[[Path, Path], object], name: str = DATA) -> Callable[[Path], object]:
    """The file `name` stands elsewhere; `kind(elsewhere, here)` puts something in its place."""

    def make(folder: Path) -> None:
        external()(folder)
        elsewhere = folder.parent.parent / f"{folder.name}.{name}"
        (folder / name).rename(elsewhere)
        kind(elsewhere, folder / name)

    return make


def sparse(folder: Path) -> None:
    """Two gigabytes that take no room on the disk."""
    wrote(model())(folder)
    os.truncate(folder / MODEL, 1 << 31)


def many(folder: Path) -> None:
    """A hundred thousand nodes in a row, and one."""
    steps = [node("Identity", "x" if i == 0 else f"v{i}", to=f"v{i + 1}") for i in range(100_000)]
    wrote(model([*steps, node("Mul", "v100000", "w")]))(folder)


def looping() -> onnx.ModelProto:
    """A Loop without an end."""
    step, going = helper.make_tensor_value_info("i", TensorProto.INT64, []), "going"
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in (going, "on")]
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("before", "after")]
    body = helper.make_graph(
        [node("Identity", going, to="on"), node("Identity", "before", to="after")],
        "body", [step, flags[0], rows[0]], [flags[1], rows[1]],
    )  # fmt: skip
    true = numpy_helper.from_array(np.array(True), "true")
    return model([helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)], [true])


def function(name: str, *calls: str) -> onnx.FunctionProto:
    """A local function that calls others one after the other."""
    steps = [
        helper.make_node(call, ["a" if i == 0 else f"a{i}"], [f"a{i + 1}"], domain="own" if call != "Neg" else "")
        for i, call in enumerate(calls)
    ]
    body = [*steps, helper.make_node("Identity", [f"a{len(calls)}"], ["b"])]
    return helper.make_function(
        "own", name, ["a"], ["b"], body, [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    )


def calling(*functions: onnx.FunctionProto) -> Callable[[Path], object]:
    return wrote(model([node(functions[0].name, "x", domain="own")], (), functions, domains=("own",)))


CHAIN = [function(f"F{i}", f"F{i + 1}") for i in range(40)] + [function("F40", "Neg")]
LAUGHS = [function(f"F{i}", *[f"F{i + 1}"] * 10) for i in range(12)] + [function("F12", "Neg")]
GOOD = model().SerializeToString()
GARBAGE = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(128))
NAN = np.array([[1, np.nan, 1, 1]], np.float32)
NOT_ONNX = "file 'model.onnx' is not ONNX"
OUTSIDE = "file 'model.onnx' keeps weights outside its own folder"
IRREGULAR = "file 'weights.bin' is missing or is not a regular file"


def shaped(*dims: int, raw: bytes = b"\0" * 16) -> Callable[[Path], object]:
    return wrote(model(weights=[TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=raw)]))


ROWS = [
    Row(81, "empty file", wrote(b""), NOT_ONNX),
    Row(81, "truncated", wrote(GOOD[:-9]), NOT_ONNX),
    Row(81, "random bytes", wrote(GARBAGE), NOT_ONNX),
    Row(81, "valid header and garbage", wrote(GOOD[:4] + GARBAGE), NOT_ONNX),
    Row(81, "good file and unknown fields", wrote(GOOD + b"\xfa\x7f\x03abc"), NOT_ONNX),
    Row(81, "two gigabytes", sparse, "has 2147483648 bytes, expected at most 2147483647"),
    Row(81, "no such file", lambda folder: None, "file 'model.onnx' is missing or is not a regular file"),
    Row(81, "pipe as model", lambda folder: os.mkfifo(folder / MODEL), "'model.onnx' is missing or is not a regular"),
    Row(81, "folder as model", lambda folder: (folder / MODEL).mkdir(), "'model.onnx' is missing or is not a regular"),
    Row(81, "symbolic link as model", linked(lambda to, at: at.symlink_to(to), MODEL), "'model.onnx' is missing or is"),
    Row(81, "many nodes", many, "has 100001 nodes"),
    Row(81, "function that calls itself", calling(function("F", "F")), "has functions that call themselves"),
    Row(81, "functions in a circle", calling(function("F", "G"), function("G", "F")), "functions that call themselves"),
    Row(81, "functions in a long chain", calling(*CHAIN), "more than 32 in a row"),
    Row(81, "functions that multiply", calling(*LAUGHS), "nodes with its functions written out, expected at most"),
    Row(81, "data in the folder above", external("../weights.bin"), OUTSIDE),
    Row(81, "data by an absolute path", external("/etc/hostname"), OUTSIDE),
    Row(81, "data in memory", external("*/_ORT_MEM_ADDR_/*"), OUTSIDE),
    Row(81, "data without a name", external(""), OUTSIDE),
    Row(81, "data as symbolic link", linked(lambda to, at: at.symlink_to(to)), IRREGULAR),
    Row(81, "data as pipe", linked(lambda to, at: os.mkfifo(at)), IRREGULAR),
    Row(81, "data as folder", linked(lambda to, at: at.mkdir()), IRREGULAR),
    Row(81, "data missing", external(content=None), IRREGULAR),
    Row(81, "data past the end", external(offset=4), "weight 'w0' at bytes 4 to 20 of 'weights.bin', which has 16"),
    Row(81, "data at a negative offset", external(offset=-4), "external data that does not fit it"),
    Row(81, "data at a vast offset", external(offset=2**63 - 8), "which has 16 bytes"),
    Row(81, "data of another length", external(length=12), "a length of 16 bytes"),
    Row(81, "data with an unknown key", external(reader="x"), "external data that does not fit it"),
    Row(81, "data that overlaps", external(count=2, content=bytes(64)), "weights that overlap at byte 8 of 'weights"),
    Row(81, "data in the model itself", external(MODEL), "names itself as the file of its weights"),
    Row(81, "data as hard link", linked(os.link), "", code=""),
    Row(81, "weight of 2^65 elements", shaped(2**62, 8), "weight 'w' of shape [4611686018427387904, 8]"),
    Row(81, "weight of 40000 dimensions", shaped(*[2**62] * 40_000), "weight 'w' of 40000 dimensions, expected at mo"),
    Row(81, "weight of negative size", shaped(-1, 4), "weight 'w' of shape [-1, 4]"),
    Row(81, "weight with too few bytes", shaped(1, 4, raw=b"\0" * 12), "with 12 bytes, its shape and type need 16"),
    Row(81, "weight of no type", wrote(model(weights=[
        TensorProto(name="w", data_type=999, dims=[1, 4], raw_data=b"\0" * 16)])), "of type 999"),
    Row(81, "weight that is not a number", wrote(model(weights=[weight(NAN)])), "not a finite number", "PARITY_FAILED"),
    Row(81, "unknown opset", wrote(model(opset=999)), "has opset 999 of ai.onnx, expected 1 to"),
    Row(81, "opset zero", wrote(model(opset=0)), "has opset 0 of ai.onnx"),
    Row(81, "unknown domain", wrote(model(domains=["evil.ops"])), "uses operators of domain 'evil.ops', expected"),
    Row(81, "operator of no domain", wrote(model([node("Exec", "x", domain="evil")])), "operator 'Exec' of domain"),
    Row(81, "custom operator of the runtime", wrote(model([node("Gelu", "x", domain="com.microsoft")],
        domains=["com.microsoft"])), "uses operators of domain 'com.microsoft'"),
    Row(81, "unknown operator", wrote(model([node("Exec", "x")])), "is not valid ONNX"),
]  # fmt: skip

LOOP = Row(81, "loop without end", wrote(looping()), "certifying it stood still")
