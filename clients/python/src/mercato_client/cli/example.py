"""A Python call to paste, made from a model's signature."""

import math

from mercato_client.cli.connection import Connection
from mercato_client.schema import Field, Signature

# Longer arrays are written with numpy, so that the call stays readable.
MAX_NUMBERS = 8


def example_call(model: str, signature: Signature, connection: Connection) -> str:
    """A program that calls the model with one row of made-up values and prints the first output."""
    inputs = ", ".join(f'"{field.name}": {sample(field)}' for field in signature.inputs if not field.optional)
    names, client = connection.source()
    lines = [
        f"from mercato_client import {names}",
        "",
        f"with {client} as client:",
        f'    answer = client.predict("{model}", {{{inputs}}})',
        f'    print(answer["{signature.outputs[0].name}"])' if signature.outputs else "    print(answer)",
    ]
    return "\n".join(_imports(inputs) + lines)


def sample(field: Field) -> str:
    """The source of a value the field accepts: one row, the smallest sizes."""
    sizes = [axis.size or 1 for axis in field.axes]
    if math.prod(sizes) > MAX_NUMBERS and field.kind == "tensor":
        return _array(field, sizes)
    return _nested(_scalar(field), sizes)


def _array(field: Field, sizes: list[int]) -> str:
    """The `.tolist()` of a bfloat16 input leaves the conversion to the client: numpy has no such type."""
    filled = f"np.full({tuple(sizes)}, {_scalar(field)}"
    return f"{filled}).tolist()" if field.dtype == "bfloat16" else f'{filled}, "{field.dtype}")'


def _scalar(field: Field) -> str:
    if field.kind == "image":
        return 'Path("photo.jpg")'
    if field.kind == "label":
        return repr(field.labels[0])
    if field.kind == "text":
        return '"red running shoes"'
    return _number(field)


def _number(field: Field) -> str:
    if field.dtype == "bool":
        return "True"
    value = max(1.0 if field.low is None else field.low, 1.0)
    value = value if field.high is None else min(value, field.high)
    return repr(float(value)) if "float" in field.dtype else repr(int(value))


def _nested(value: str, sizes: list[int]) -> str:
    for size in reversed(sizes):
        value = f"[{', '.join([value] * size)}]"
    return value


def _imports(inputs: str) -> list[str]:
    paths = ["from pathlib import Path", ""] if "Path(" in inputs else []
    arrays = ["import numpy as np"] if "np." in inputs else []
    return paths + arrays
