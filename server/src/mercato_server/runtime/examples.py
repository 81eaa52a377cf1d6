"""The author's examples: from native values to batches, and frozen into the artifact for warm-up."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mercato_plugin import Batch, Example, Field, Label, ModelSpec, Ragged, SpecError, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import default_row, numpy_dtype, plugin_parameters, shared_row


def batch_of(spec: ModelSpec, example: Example) -> Batch:
    """One example as the batch that preprocess would get for it.

    Raises SpecError when an example does not fit its own signature.
    """
    unknown = set(example.inputs) - set(spec.inputs)
    if unknown:
        raise SpecError(f"{spec.name}: an example has inputs {sorted(unknown)}, which the signature lacks")
    rows = _row_count(spec, example.inputs)
    batch = Batch(inputs={}, rows=rows, parameters=_parameters(spec, example, rows))
    inputs, lengths, present = {}, {}, {}
    for name, item in spec.inputs.items():
        given = example.inputs.get(name)
        if item.optional:
            present[name] = np.full(rows, given is not None)
        if given is None:
            inputs[name] = absent(item, rows, spec.name, name)
            if isinstance(item, Tensor) and item.ragged:
                lengths[name] = np.zeros(rows, np.int64)
            continue
        array, own_lengths = _array(item, given, f"{spec.name}: example input {name!r}")
        inputs[name] = np.broadcast_to(array, (rows, *array.shape)) if item.shared else array
        if own_lengths is not None:
            lengths[name] = np.full(rows, own_lengths)
    batch.inputs, batch.lengths, batch.present = inputs, lengths, present
    return batch


def absent(item: Field, rows: int, model: str, name: str) -> Array:
    """The rows of an optional input that the caller left out. Raises SpecError on a required one."""
    if not item.optional:
        raise SpecError(f"{model}: an example lacks the required input {name!r}")
    row = default_row(item)
    return np.broadcast_to(row, (rows, *row.shape))


def freeze(spec: ModelSpec, examples: Sequence[Example]) -> bytes:
    """The examples as JSON, for `thaw`."""
    frozen = [{"inputs": _plain(example.inputs), "parameters": dict(example.parameters)} for example in examples]
    return json.dumps(frozen, ensure_ascii=False, indent=1).encode()


def thaw(content: bytes) -> list[Example]:
    """The examples that `freeze` wrote, without recorded outputs."""
    return [Example(inputs=_native(item["inputs"]), parameters=item["parameters"]) for item in json.loads(content)]


def _row_count(spec: ModelSpec, inputs: Mapping[str, Any]) -> int:
    for name, item in spec.inputs.items():
        if name in inputs and not item.shared:
            return len(inputs[name])
    return 1


def _parameters(spec: ModelSpec, example: Example, rows: int) -> dict[str, Any]:
    values = {n: example.parameters.get(n, item.default) for n, item in plugin_parameters(spec).items()}  # type: ignore[attr-defined]
    return {name: np.full(rows, v) if spec.parameters[name].per_row else v for name, v in values.items()}


def _array(item: Field, value: Any, where: str) -> tuple[Array, np.ndarray[Any, np.dtype[np.int64]] | None]:
    if isinstance(item, Tensor) and item.ragged and not item.shared:
        return _padded(item, value)
    if isinstance(item, Tensor):
        array = np.asarray(value, numpy_dtype(item.dtype))
    elif isinstance(item, Label):
        array = np.vectorize(item.names.index, otypes=[np.int64])(np.asarray(value, object))
    else:
        array = np.asarray(value, object)
    wanted = len(item.row_axes) + (0 if item.shared else 1)
    if array.ndim != wanted:
        raise SpecError(f"{where} has rank {array.ndim}, expected {wanted}")
    if isinstance(item, Tensor) and item.ragged:
        return shared_row(item, array), np.array(array.shape[:1])
    return array, None


def _padded(item: Tensor, value: Any) -> tuple[Array, np.ndarray[Any, np.dtype[np.int64]]]:
    rows = [np.asarray(row, numpy_dtype(item.dtype)) for row in value]
    ragged = (
        Ragged.from_rows(rows, item.dtype)
        if item.dtype != "bfloat16"
        else Ragged(np.concatenate(rows), np.asarray([len(row) for row in rows], np.int64))
    )
    width = int(ragged.lengths.max())
    padded = np.full((len(rows), width, *ragged.values.shape[1:]), item.pad, ragged.values.dtype)
    padded[np.arange(width) < ragged.lengths[:, None]] = ragged.values
    return padded, ragged.lengths


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _native(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"base64"}:
        return base64.b64decode(value["base64"])
    if isinstance(value, dict):
        return {name: _native(item) for name, item in value.items()}
    return [_native(item) for item in value] if isinstance(value, list) else value
