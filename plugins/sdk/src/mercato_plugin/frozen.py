"""The frozen form of a specification: JSON for artifacts, and the fingerprints made from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from mercato_plugin.errors import SpecError
from mercato_plugin.fields import Axis, Field, Image, Label, Tensor, Text
from mercato_plugin.parameters import Bool, Choice, Float, Int, Parameter, Str
from mercato_plugin.spec import BatchPolicy, GraphSpec, ModelSpec, TopK

_KINDS: dict[str, type] = {
    "tensor": Tensor, "text": Text, "image": Image, "label": Label,
    "int": Int, "float": Float, "bool": Bool, "choice": Choice, "str": Str,
    "axis": Axis, "graph": GraphSpec, "batch_policy": BatchPolicy, "top_k": TopK, "model": ModelSpec,
}  # fmt: skip
_Part = Field | Parameter | ModelSpec | GraphSpec | BatchPolicy | TopK | Axis
_NAMES = {kind: name for name, kind in _KINDS.items()}
_SIGNATURE = ("inputs", "outputs", "parameters", "top_k")
_DOCUMENTATION = ("doc", "unit", "license", "languages")


def freeze(spec: ModelSpec) -> dict[str, Any]:
    """The specification as JSON-ready data; `thaw` is its inverse."""
    frozen = _freeze(spec)
    assert isinstance(frozen, dict)
    return frozen


def thaw(data: Mapping[str, Any]) -> ModelSpec:
    """The specification that `freeze` wrote. Raises SpecError on anything else."""
    spec = _thaw(data)
    if not isinstance(spec, ModelSpec):
        raise SpecError("the data is not a frozen model specification")
    return spec


def canonical(data: object) -> bytes:
    """One byte string for equal data: sorted keys, no blanks, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def schema_fingerprint(spec: ModelSpec) -> str:
    """SHA-256 of the caller's signature, hexadecimal; no name, version, weights or documentation."""
    frozen = freeze(spec)
    signature = {part: frozen[part] for part in _SIGNATURE if part in frozen}
    return hashlib.sha256(canonical(_undocumented(signature))).hexdigest()


def _freeze(value: object) -> Any:
    if type(value) in _NAMES:
        changed = {f.name: getattr(value, f.name) for f in fields(value)}  # type: ignore[arg-type]
        data = {name: _freeze(item) for name, item in changed.items() if not _is_empty(item)}
        return {"$": _NAMES[type(value)], **data}
    if isinstance(value, Mapping):
        return {str(name): _freeze(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_freeze(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SpecError(f"a specification cannot hold {type(value).__name__} values: {value!r}")


def _is_empty(value: object) -> bool:
    """Values that stand for 'not stated' are left out, so that a later SDK can add fields without a new fingerprint."""
    return value is None or value is False or (isinstance(value, str | tuple | list | dict) and not value)


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping) and "$" in value:
        return _thaw_kind(value)
    if isinstance(value, Mapping):
        return {name: _thaw(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(_thaw(item) for item in value)
    return value


def _thaw_kind(value: Mapping[str, Any]) -> _Part:
    kind = _KINDS.get(value["$"])
    if kind is None:
        raise SpecError(f"unknown part {value['$']!r} in a frozen specification")
    known = {f.name: f.default for f in fields(kind)}
    given = {name: _thaw(item) for name, item in value.items() if name != "$"}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SpecError(f"unknown entries {unknown} in a frozen {value['$']}")
    # `False` and `()` are left out when frozen, also where the default is another.
    stated = {name: default for name, default in known.items() if default is True or isinstance(default, tuple)}
    empty = {name: False if default is True else () for name, default in stated.items() if name not in given}
    thawed: _Part = kind(**given, **empty)
    return thawed


def _undocumented(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {name: _undocumented(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if not ("$" in value and name in _DOCUMENTATION)}
    if isinstance(value, list):
        return [_undocumented(item) for item in value]
    return value
