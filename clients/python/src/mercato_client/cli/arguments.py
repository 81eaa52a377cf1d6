"""What was typed behind `mercato predict`, as inputs and parameters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mercato_client.errors import InvalidInput, Violation
from mercato_client.schema import Signature


def read_inputs(source: str | None, texts: Sequence[str], signature: Signature) -> dict[str, Any]:
    """Inputs from `--input` (JSON, or @file with JSON) and `--text`. Strings given for images are paths."""
    try:
        return _inputs(source, texts, signature)
    except RecursionError as error:
        raise _wrong("input", "lists are nested too deeply") from error


def _inputs(source: str | None, texts: Sequence[str], signature: Signature) -> dict[str, Any]:
    inputs = _json_object(source) if source is not None else {}
    if texts:
        name = _text_input(signature)
        if name in inputs:
            raise _wrong("text", f"input {name!r} is in --input too; expected one of them")
        inputs[name] = list(texts)
    images = [field.name for field in signature.inputs if field.dtype == "bytes"]
    return inputs | {name: _paths(inputs[name]) for name in images if name in inputs}


def read_parameters(pairs: Sequence[str], signature: Signature) -> dict[str, Any]:
    """Parameters from `name=value`; a value is JSON unless the signature says string."""
    texts = {parameter.name for parameter in signature.parameters if parameter.type == "string"}
    return _once("parameter", "", [_parameter(pair, texts) for pair in pairs])


def _json_object(source: str) -> dict[str, Any]:
    try:
        text = _file(source[1:]) if source.startswith("@") else source
        value = json.loads(text, object_pairs_hook=lambda pairs: _once("input", "key ", pairs))
    except ValueError as error:
        raise _wrong("input", f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _wrong("input", f'got a JSON {type(value).__name__}, expected an object such as {{"x": [[4.0]]}}')
    return value


def _once(option: str, what: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Raises InvalidInput where one would silently replace another."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise _wrong(option, f"{what}{twice!r} is given twice")
    return dict(pairs)


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise _wrong("input", f"{path!r} cannot be read: {error.strerror}") from error


def _text_input(signature: Signature) -> str:
    names = [field.name for field in signature.inputs if field.kind == "text"]
    if len(names) == 1:
        return names[0]
    inputs = ", ".join(field.name for field in signature.inputs)
    raise _wrong("text", f"the model has {len(names)} text inputs, expected one; use --input (its inputs: {inputs})")


def _paths(value: Any) -> Any:
    if isinstance(value, list):
        return [_paths(item) for item in value]
    return Path(value) if isinstance(value, str) else value


def _parameter(pair: str, texts: set[str]) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise _wrong("parameter", f"got {pair!r}, expected name=value")
    try:
        return name, value if name in texts else json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _wrong(option: str, description: str) -> InvalidInput:
    return InvalidInput.of(Violation(f"--{option}", description))
