"""ONNX files that a plugin brings ready-made: copied with their data files, after a look at what they refer to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message
from onnx.external_data_helper import uses_external_data

from mercato_plugin import GraphSpec
from mercato_server.errors import ExportFailed
from mercato_server.export import files, recorded, tools
from mercato_server.export.graphs import ExportedGraph


def take(source: Path, spec: GraphSpec, path: Path, *, model: str) -> ExportedGraph:
    """Copy an ONNX file to `path`, its external data beside it, and check it against its declaration.

    Data files must lie beside the ONNX file and be named without folders. Raises ExportFailed.
    """
    _refuse_irregular(source, source.name, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in sorted(_data_files(source, model)):
        _refuse_irregular(source.parent / name, name, model)
        _copy_data(source.parent / name, path.parent / name, model)
    shutil.copyfile(source, path)
    opset = files.check(path, spec, model, exact=False)
    return ExportedGraph(path, spec, opset, tools.ONNX, recorded=recorded.read(source))


def _data_files(source: Path, model: str) -> set[str]:
    try:
        proto = onnx.load(str(source), load_external_data=False)
    except DecodeError as error:
        raise ExportFailed(f"model {model!r}: file {source.name!r} is not ONNX") from error
    names = {entry.value for tensor in _external(proto) for entry in tensor.external_data if entry.key == "location"}
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise ExportFailed(
                f"model {model!r}: file {source.name!r} keeps weights outside its own folder; "
                "save it with its external data beside it, under a plain file name"
            )
    return names


def _external(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor whose values lie in another file, wherever it stands in the model."""
    if isinstance(message, onnx.TensorProto):
        if uses_external_data(message):
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if not isinstance(value, Message) else (value,):
                yield from _external(part)


def _copy_data(source: Path, target: Path, model: str) -> None:
    if target.exists():
        raise ExportFailed(f"model {model!r}: two graphs bring a data file {source.name!r}; rename one of them")
    shutil.copyfile(source, target)


def _refuse_irregular(path: Path, name: str, model: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise ExportFailed(f"model {model!r}: file {name!r} is missing or is not a regular file")
