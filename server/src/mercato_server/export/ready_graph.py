"""ONNX files that a plugin brings ready-made: copied with their data files, each opened once, through the gate."""

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from mercato_plugin import GraphSpec
from mercato_server.errors import ExportFailed
from mercato_server.export import files, recorded, tools
from mercato_server.export.graphs import ExportedGraph
from mercato_server.export.onnx_gate import Gate

MAX_BYTES = (1 << 31) - 1
"""The largest ONNX file: protobuf reads no larger message. Weights beyond it lie in a file beside."""


def take(source: Path, spec: GraphSpec, path: Path, *, model: str) -> ExportedGraph:
    """Copy an ONNX file to `path`, its external data beside it, and check it against its declaration.

    Data files must lie beside the ONNX file and be named without folders. What is checked is the copy,
    so that nothing can be put in its place. Raises ExportFailed.
    """
    gate = Gate(model, source.name)
    content = _content(source, model)
    proto = gate.parse(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = gate.data_files(proto)
    gate.check_extents(proto, {name: _copy_data(source.parent / name, path.parent / name, model) for name in names})
    path.write_bytes(content)
    opset = files.check(path, spec, model, exact=False)
    return ExportedGraph(path, spec, opset, tools.ONNX, recorded=recorded.read(source))


def _content(source: Path, model: str) -> bytes:
    with _opened(source, model) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise ExportFailed(
                f"model {model!r}: file {source.name!r} has {size} bytes, expected at most {MAX_BYTES}; "
                "keep its weights as external data"
            )
        return file.read()


def _copy_data(source: Path, target: Path, model: str) -> int:
    """Copy a data file; gives its size in bytes."""
    if target.exists():
        raise ExportFailed(f"model {model!r}: two graphs bring a data file {source.name!r}; rename one of them")
    with _opened(source, model) as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
        return copy.tell()


def _opened(path: Path, model: str) -> BinaryIO:
    """The regular file of that name itself: no link is followed, and a pipe is not waited for."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    raise ExportFailed(f"model {model!r}: file {path.name!r} is missing or is not a regular file")
