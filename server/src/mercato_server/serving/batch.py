"""Joining requests into one batch and splitting its result: pure functions."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from mercato_server.contract.batch import Array, BatchResult, JoinedBatch, concatenated
from mercato_server.contract.receipt import Receipt, ReleaseReason
from mercato_server.errors import InvalidRequest, PluginFault, RequestError, Violation
from mercato_server.serving.request import Answer, Request

log = logging.getLogger("mercato.serving")


def join(requests: Sequence[Request]) -> JoinedBatch:
    """The rows of all requests, in order. Requests must have equal `group`."""
    first = requests[0]
    deadline = min(request.deadline for request in requests)
    if len(requests) == 1:
        parameters = {name: _per_row(value, first.rows) for name, value in first.parameters.items()}
        return JoinedBatch(first.inputs, first.rows, parameters, first.lengths, first.present, deadline)
    return JoinedBatch(
        inputs={name: _joined([r.inputs[name] for r in requests]) for name in first.inputs},
        rows=sum(request.rows for request in requests),
        parameters=_joined_parameters(requests),
        lengths={name: np.concatenate([r.lengths[name] for r in requests]) for name in first.lengths},
        present={name: np.concatenate([r.present[name] for r in requests]) for name in first.present},
        deadline=deadline,
    )


def split(
    result: BatchResult,
    requests: Sequence[Request],
    queued_ns: Sequence[int],
    release: ReleaseReason,
    model: str,
    started_ns: int = 0,
) -> list[Answer | RequestError]:
    """Each request's rows with its receipt, or its error when the plugin refused one of them.

    `started_ns` is when the batch began to run, as far as the queue can tell.

    Raises PluginFault when an output has another number of rows than the batch.
    """
    rows = sum(request.rows for request in requests)
    _count_rows(result, rows, model)
    answers: list[Answer | RequestError] = []
    start = 0
    for request, queue_ns in zip(requests, queued_ns, strict=True):
        end = start + request.rows
        error = _rejection(request, result.rejected, start, model) if result.rejected else None
        receipt = Receipt(
            queue_ns, result.pre_ns, result.compute_ns, result.post_ns, rows, result.padding, release, result.provider,
            _truncations(request, result, start, end), started_ns,
        )  # fmt: skip
        answers.append(error or Answer({n: array[start:end] for n, array in result.outputs.items()}, receipt))
        start = end
    return answers


def _count_rows(result: BatchResult, rows: int, model: str) -> None:
    for name, array in result.outputs.items():
        if len(array) != rows:
            text = f"model {model!r}: output {name!r} has {len(array)} rows, the batch has {rows}"
            fault = PluginFault(text, model=model)
            log.error("%s", fault, extra={"model": model, "fault": fault.id})
            raise fault


def _joined_parameters(requests: Sequence[Request]) -> dict[str, object]:
    names = requests[0].parameters
    return {name: _same_or_per_row(name, requests) for name in names}


def _same_or_per_row(name: str, requests: Sequence[Request]) -> object:
    value = requests[0].parameters[name]
    if not isinstance(value, PerRow):
        return value
    return np.concatenate([_per_row(request.parameters[name], request.rows) for request in requests])


class PerRow:
    """A parameter's value that holds for every row of its request, and may differ in the next request."""

    __slots__ = ("value",)

    def __init__(self, value: bool | int | float | str) -> None:
        self.value = value


def _per_row(value: object, rows: int) -> object:
    if not isinstance(value, PerRow):
        return value
    return np.full(rows, value.value, object if isinstance(value.value, str) else None)


def _joined(arrays: list[Array]) -> Array:
    """The rows of all, read-only; the worker writes the pad of a ragged input into the cells that widen it."""
    joined = concatenated(arrays)
    joined.flags.writeable = False
    return joined


def _rejection(
    request: Request, rejected: Mapping[int, tuple[str, str]], start: int, model: str
) -> InvalidRequest | None:
    """What the caller is told of its rows that were refused, by their numbers in its own request."""
    violations = [
        Violation(f"inputs.{field}[{row - start if request.places is None else request.places[row - start]}]", why)
        for row, (field, why) in sorted(rejected.items())
        if start <= row < start + request.rows
    ]
    return InvalidRequest(violations, model=model) if violations else None


def _truncations(request: Request, result: BatchResult, start: int, end: int) -> Mapping[str, int]:
    if not result.truncated:
        return request.truncations
    counts = dict(request.truncations)
    for name, rows in result.truncated.items():
        if cut := sum(start <= row < end for row in rows):
            counts[name] = max(counts.get(name, 0), cut)
    return counts
