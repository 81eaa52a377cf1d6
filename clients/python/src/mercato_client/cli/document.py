"""What the command prints for machines: one JSON document."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import numpy as np
import typer

from mercato_client.prediction import Prediction


def show_document(value: object) -> None:
    """Print the value as JSON on stdout."""
    typer.echo(json.dumps(jsonable(value), ensure_ascii=False, indent=2, allow_nan=False))


def answer_document(answer: Prediction) -> dict[str, Any]:
    """An answer's parts; the receipt is null unless it was asked for."""
    return {
        "model": answer.model,
        "outputs": dict(answer),
        "receipt": answer.receipt,
        "request_id": answer.request_id,
    }


def jsonable(value: Any) -> Any:
    """Plain data. Bytes become base64, times ISO 8601, and NaN and infinities strings, as in protobuf's JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return _leaf(value)


def _leaf(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
