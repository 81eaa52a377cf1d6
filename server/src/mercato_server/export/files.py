"""Writing ONNX files, and reading back that they are what was declared."""

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from mercato_plugin import GraphSpec, Tensor
from mercato_server.contract.summary import summary
from mercato_server.errors import ExportFailed
from mercato_server.export.graphs import axis_name, shown

_INLINE_LIMIT = 4 << 20

DATA_TYPES = {
    "bool": ir.DataType.BOOL,
    "int8": ir.DataType.INT8, "int16": ir.DataType.INT16, "int32": ir.DataType.INT32, "int64": ir.DataType.INT64,
    "uint8": ir.DataType.UINT8, "uint16": ir.DataType.UINT16, "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64,
    "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT, "float64": ir.DataType.DOUBLE,
}  # fmt: skip


def save(model: ir.Model, path: Path) -> None:
    """Write the model without its metadata, which holds source paths; large weights go to `<name>.onnx.data`.

    Equal models give equal bytes.
    """
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, path, external_data=f"{path.name}.data" if weights > _INLINE_LIMIT else None)


def check(path: Path, spec: GraphSpec, model: str, *, exact: bool) -> int:
    """Hold a file against its declaration and give its opset, 0 where it uses no standard operator.

    With `exact`, the axes that vary must be the declared ones; otherwise a graph may vary more than
    declared. Raises ExportFailed.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed(f"model {model!r}: graph {path.stem!r} is not valid ONNX: {summary(error)}") from error
    proto = onnx.load(str(path), load_external_data=False)
    _check_ports(f"model {model!r}: graph input", _real_inputs(proto.graph), spec.inputs, exact)
    _check_ports(f"model {model!r}: graph output", list(proto.graph.output), spec.outputs, exact)
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Old files list weights among the inputs."""
    weights = {weight.name for weight in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _check_ports(
    what: str, ports: list[onnx.ValueInfoProto], declared: dict[str, Tensor] | object, exact: bool
) -> None:
    assert isinstance(declared, dict)
    names = [port.name for port in ports]
    if set(names) != set(declared):
        raise ExportFailed(f"{what}s are {names}, the specification declares {list(declared)}")
    for port in ports:
        _check_port(f"{what} {port.name!r}", port.type.tensor_type, declared[port.name], exact)


def _check_port(what: str, port: onnx.TypeProto.Tensor, declared: Tensor, exact: bool) -> None:
    wanted = DATA_TYPES[declared.dtype]
    if port.elem_type != wanted:
        got = ir.DataType(port.elem_type).name.lower()
        raise ExportFailed(f"{what} is {got}, the specification declares {declared.dtype}")
    if not port.HasField("shape") and not exact:
        return
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in port.shape.dim]
    fits = len(sizes) == len(declared.axes) and all(
        _fits(size, axis if axis_name(axis) is None else None, exact)
        for size, axis in zip(sizes, declared.axes, strict=True)
    )
    if not fits:
        got = ", ".join("varies" if size is None else str(size) for size in sizes)
        raise ExportFailed(
            f"{what} has axes ({got}), the specification declares {shown(declared)}; "
            "a named axis must vary and a numbered one must have that size"
        )


def _fits(size: int | None, declared: object, exact: bool) -> bool:
    return size == declared or (size is None and not exact)
