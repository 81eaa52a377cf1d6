"""The author's examples on their whole way, preprocess to postprocess, with the exported graphs in the middle."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mercato_plugin import Example, Field, InvalidInput, Label, Model, ModelSpec, SpecError, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import numpy_dtype
from mercato_server.contract.summary import summary
from mercato_server.errors import ExportFailed
from mercato_server.export.graphs import Arrays
from mercato_server.runtime.examples import batch_of
from mercato_server.runtime.runs import GraphRunner
from mercato_server.runtime.session import Session
from mercato_server.runtime.worker import LoadedFiles

Outputs = Mapping[str, Any]


class Tap(Session):
    """A session that shows its inputs and outputs to `see`."""

    def __init__(self, session: Session, see: Callable[[Arrays, Arrays], None]) -> None:
        self._inner = session
        self._see = see
        self.providers = session.providers

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The session's own outputs."""
        outputs = self._inner.run(inputs)
        self._see(inputs, outputs)
        return outputs


def load(model: Model, spec: ModelSpec, files: Path, settings: Any) -> None:
    """Let the plugin read what build saved. Raises ExportFailed."""
    try:
        model.load(LoadedFiles(files, spec.version, settings))
    except Exception as error:  # the author's code
        raise ExportFailed(f"model {spec.name!r}: load raised {summary(error)}") from error


def answers(
    model: Model, spec: ModelSpec, sessions: Mapping[str, Session], examples: Sequence[Example]
) -> Iterator[tuple[Example, Outputs]]:
    """Each example with what the model answers to it. Raises ExportFailed."""
    for number, example in enumerate(examples):
        runner = GraphRunner(sessions, spec.graphs, spec.batch)
        yield example, _answer(model, spec, runner, example, f"model {spec.name!r}: example {number}")


def compared(item: Field, got: Any, expected: Any, what: str) -> tuple[Array, Array]:
    """An answer and the recorded value of one output as arrays; labels as indices.

    Only recorded fractions are rounded, to the output's type. Raises ExportFailed, naming `what`, when the
    two are no such arrays.
    """
    try:
        if isinstance(item, Label):
            index = np.vectorize(lambda value: _index(item.names, value), otypes=[np.int64])
            return np.asarray(got), index(np.asarray(expected, object))
        if not isinstance(item, Tensor):
            return np.asarray(got, object), np.asarray(expected, object)
        dtype = numpy_dtype(item.dtype)
        return np.asarray(got), np.asarray(expected, None if dtype.kind in "biu" else dtype)
    except (ValueError, TypeError) as error:
        raise ExportFailed(f"{what} cannot be compared with the answer: {summary(error)}") from error


def _index(names: Sequence[str], value: Any) -> int:
    """The place of a label; a whole number is one already."""
    if isinstance(value, int):
        return value
    if value not in names:
        raise ValueError(f"got {value!r}, expected one of {', '.join(names)}")
    return names.index(value)


def _answer(model: Model, spec: ModelSpec, runner: GraphRunner, example: Example, what: str) -> Outputs:
    try:
        batch = batch_of(spec, example)
        answer: Any = model.predict(batch, runner)
    except (SpecError, InvalidInput) as error:
        raise ExportFailed(f"{what} is not a valid request: {error}") from error
    except Exception as error:  # the author's code, or the graph in its hands
        raise ExportFailed(f"{what} fails: {summary(error)}") from error
    if batch.rejected:
        row, (field, why) = next(iter(batch.rejected.items()))
        raise ExportFailed(f"{what} is refused by the model: row {row}, {field}: {why}")
    if not isinstance(answer, Mapping) or spec.outputs.keys() - answer.keys():
        got = sorted(answer) if isinstance(answer, Mapping) else type(answer).__name__
        raise ExportFailed(f"{what}: the model answers {got}, the specification declares {sorted(spec.outputs)}")
    return answer
