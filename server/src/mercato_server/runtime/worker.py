"""The worker: owns one model's sessions and runs the plugin's own code, batch by batch.

It is the same object whatever hosts it; a host calls `load`, `warm`, then `run` from one thread.
"""

import copy
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mercato_plugin import Axis, Batch, Field, InvalidInput, Label, Model, Tensor
from mercato_plugin.fields import AxisSpec
from mercato_server.contract.artifact import Artifact
from mercato_server.contract.batch import Array, BatchResult, JoinedBatch
from mercato_server.contract.fields import numpy_dtype
from mercato_server.contract.plugin import OfferedModel
from mercato_server.contract.summary import summary
from mercato_server.errors import InvalidRequest, LoadFailed, PluginFault
from mercato_server.runtime import examples
from mercato_server.runtime.bounds import Bounds
from mercato_server.runtime.memory import Growth, give_back
from mercato_server.runtime.runs import GuardedRunner
from mercato_server.runtime.session import Session, open_session

log = logging.getLogger("mercato.worker")


@dataclass(frozen=True)
class LoadedFiles:
    """What `load(ctx)` gets."""

    files: Path
    version: int
    settings: Any


class OutputFault(Exception):
    """The plugin's answer does not fit its signature; the text names output, got and expected."""


class Worker:
    """One version of one model. Construction is free; `load` opens the sessions.

    The plugin's object is copied, so that several versions of one model do not share what `load` keeps in it.
    """

    def __init__(self, offered: OfferedModel, artifact: Artifact, *, provider: str, threads: int) -> None:
        self._model = copy.copy(offered.model)
        self._plugin = offered.plugin.distribution
        self._settings = offered.settings
        self._spec = artifact.spec
        self._artifact = artifact
        self._provider = provider
        self._threads = threads
        self._graphs = artifact.spec.graphs
        self._bounds = Bounds(artifact.spec)
        self._sessions: dict[str, Session] = {}
        self._growth = Growth()

    @property
    def nbytes(self) -> int:
        """Bytes by which the process grew in `load` and `warm`; 0 before them, and where it cannot be measured."""
        return self._growth.nbytes

    @property
    def providers(self) -> tuple[str, ...]:
        """What the sessions run on by their short names, the one in use first; empty before `load`."""
        return tuple(dict.fromkeys(name for session in self._sessions.values() for name in session.providers))

    def load(self) -> None:
        """Open the sessions and call the plugin's `load`.

        Raises LoadFailed or ProviderUnavailable.
        """
        with self._growth.measured():
            self._load()

    def warm(self) -> None:
        """Run the author's examples one by one, and a full batch of the first. Raises LoadFailed."""
        with self._growth.measured():
            self._warm()

    def run(self, joined: JoinedBatch) -> BatchResult:
        """Compute one batch; rows that the plugin refuses are in `rejected`.

        Raises PluginFault, or InvalidRequest when the plugin refuses the batch without naming rows.
        """
        rejected: dict[int, tuple[str, str]] = {}
        rows = np.arange(joined.rows)
        while len(rows):
            part = joined if len(rows) == joined.rows else _take(joined, rows)
            try:
                return _spread(self._run_once(part), rows, joined.rows, rejected)
            except InvalidInput as error:
                if error.rows is None:
                    raise InvalidRequest.of(f"inputs.{error.field}", error.message, model=self._spec.name) from error
                guilty = rows[[row for row in error.rows if 0 <= row < len(rows)]]
                if not len(guilty):
                    raise self._fault(error) from error
                rejected.update((int(row), (error.field, error.message)) for row in guilty)
                rows = np.setdiff1d(rows, guilty)
            except BaseException as error:  # a plugin's SystemExit is its own fault, not the server's end
                raise self._fault(error) from error
        return BatchResult(outputs={}, rejected=rejected, provider=self._provider)

    def close(self) -> None:
        """Let go of the sessions, so that every later run fails; what the plugin keeps lives as long as the worker."""
        self._sessions.clear()
        give_back()

    def _load(self) -> None:
        for name in self._graphs:
            self._sessions[name] = open_session(
                self._artifact.graph(name), provider=self._provider, threads=self._threads
            )
        try:
            self._model.load(LoadedFiles(self._artifact.files, self._spec.version, self._settings))
        except BaseException as error:  # as in `run`
            log.error("model %s: load raised", self._spec.name, exc_info=error, extra=self._named())
            raise LoadFailed(f"load of {self._spec.name} raised {summary(error)}") from error

    def _warm(self) -> None:
        given = examples.thaw((self._artifact.folder / "examples.json").read_bytes())
        batches = [examples.batch_of(self._spec, example) for example in given]
        full = [_repeated(batch, self._spec.batch.max_rows) for batch in batches[:1]]
        for joined in (*map(_joined, batches), *full):
            try:
                rejected = self.run(joined).rejected
            except (PluginFault, InvalidRequest) as error:
                raise LoadFailed(f"warm-up of {self._spec.name}: {error.message}") from error
            if len(rejected) == joined.rows:
                field, why = rejected[0]
                raise LoadFailed(f"warm-up of {self._spec.name}: all rows of an example were rejected: {field}: {why}")

    def _run_once(self, joined: JoinedBatch) -> BatchResult:
        batch = _batch(joined, self._spec.inputs)
        graphs = GuardedRunner(self._sessions, self._graphs, self._spec.batch, self._bounds, batch)
        start = time.perf_counter_ns()
        if type(self._model).predict is Model.predict:
            inputs = self._model.preprocess(batch)
            ready = time.perf_counter_ns()
            outputs = graphs.run(inputs)
            computed = time.perf_counter_ns()
            answer = self._model.postprocess(outputs, batch)
        else:
            answer = self._model.predict(batch, graphs)
            ready, computed = start, start + graphs.compute_ns
        checked = _checked(self._spec.outputs, answer, batch.rows)
        return BatchResult(
            outputs=checked,
            rejected=batch.rejected,
            truncated={name: frozenset(rows) for name, rows in batch.truncated.items()},
            pre_ns=ready - start,
            compute_ns=computed - ready,
            post_ns=time.perf_counter_ns() - computed,
            padding=graphs.padding,
            provider=self._provider,
        )

    def _fault(self, error: BaseException) -> PluginFault:
        detail = f": {error}" if isinstance(error, OutputFault) else ""
        fault = PluginFault(f"model {self._spec.name!r} failed{detail}", model=self._spec.name)
        facts = {**self._named(), "fault": fault.id}
        log.error("model %s failed on a batch, id %s", self._spec.name, fault.id, exc_info=error, extra=facts)
        return fault

    def _named(self) -> dict[str, object]:
        """Which one it is, as fields of a log line."""
        return {"model": self._spec.name, "version": self._spec.version, "plugin": self._plugin}


def _batch(joined: JoinedBatch, fields: Mapping[str, Field]) -> Batch:
    """What the plugin gets; every array of it is read-only, whether or not joining has copied it."""
    remaining = None if joined.deadline is None else joined.deadline - time.monotonic()
    batch = Batch(_padded(joined, fields), joined.rows, joined.parameters, joined.lengths, joined.present, remaining)
    for group in (batch.inputs, batch.parameters, batch.lengths, batch.present):
        for value in group.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
    return batch


def _padded(joined: JoinedBatch, fields: Mapping[str, Field]) -> Mapping[str, Array]:
    """The inputs; behind the end of ragged rows stands their field's pad, where joining has left zeros."""
    pads = {name: item.pad for name in joined.lengths if isinstance(item := fields[name], Tensor) and item.pad}
    inputs = dict(joined.inputs)
    for name, value in pads.items():
        array = inputs[name].copy()
        array[np.arange(array.shape[1]) >= joined.lengths[name][:, None]] = value
        inputs[name] = array
    return inputs


def _joined(batch: Batch) -> JoinedBatch:
    return JoinedBatch(batch.inputs, batch.rows, batch.parameters, batch.lengths, batch.present)


def _repeated(batch: Batch, rows: int) -> JoinedBatch:
    """The example's rows again and again, up to a full batch."""
    return _take(_joined(batch), np.arange(rows) % batch.rows)


def _take(joined: JoinedBatch, rows: Array) -> JoinedBatch:
    return replace(
        joined,
        inputs={name: array[rows] for name, array in joined.inputs.items()},
        rows=len(rows),
        parameters={n: v[rows] if isinstance(v, np.ndarray) else v for n, v in joined.parameters.items()},
        lengths={name: array[rows] for name, array in joined.lengths.items()},
        present={name: array[rows] for name, array in joined.present.items()},
    )


def _spread(result: BatchResult, rows: Array, total: int, rejected: Mapping[int, tuple[str, str]]) -> BatchResult:
    """Put the answers of the rows that ran back into the places they had in the whole batch."""
    if len(rows) == total:
        return result
    outputs = {}
    for name, array in result.outputs.items():
        outputs[name] = np.full((total, *array.shape[1:]), _blank(array), array.dtype)
        outputs[name][rows] = array
    moved = {int(rows[row]): why for row, why in result.rejected.items()}
    truncated = {name: frozenset(int(rows[r]) for r in cut) for name, cut in result.truncated.items()}
    return replace(result, outputs=outputs, rejected={**rejected, **moved}, truncated=truncated)


def _blank(array: Array) -> Any:
    """What stands in the rows that have no answer."""
    return type(array.flat[0])() if array.dtype == object and array.size else 0


def _checked(fields: Mapping[str, Field], answer: Mapping[str, Any] | None, rows: int) -> dict[str, Array]:
    """The plugin's answer as arrays that fit the signature. Raises OutputFault."""
    if not isinstance(answer, Mapping):
        raise OutputFault(f"the plugin returned {type(answer).__name__}, expected a mapping of outputs")
    missing = fields.keys() - answer.keys()
    if missing:
        raise OutputFault(f"the plugin left out outputs {sorted(missing)}")
    return {name: _checked_output(name, item, answer[name], rows) for name, item in fields.items()}


def _checked_output(name: str, item: Field, value: Any, rows: int) -> Array:
    array = np.asarray(value) if isinstance(item, Tensor | Label) else np.asarray(value, object)
    if array.ndim == 0 or len(array) != rows:
        got = "a scalar" if array.ndim == 0 else f"{len(array)} rows"
        raise OutputFault(f"output {name!r} has {got}, the batch has {rows}")
    if isinstance(item, Tensor) and array.dtype != numpy_dtype(item.dtype):
        raise OutputFault(f"output {name!r} is {array.dtype}, the signature says {item.dtype}")
    if isinstance(item, Label) and not (array.dtype.kind in "iu" and _in_range(array, len(item.names))):
        raise OutputFault(f"output {name!r} must be label indices from 0 to {len(item.names) - 1}")
    _check_axes(name, item, array)
    return array


def _in_range(array: Array, size: int) -> bool:
    return array.size == 0 or (int(array.min()) >= 0 and int(array.max()) < size)


def _check_axes(name: str, item: Field, array: Array) -> None:
    got, wanted = array.shape[1:], item.row_axes
    if len(got) != len(wanted) or not all(map(_fits, got, wanted)):
        raise OutputFault(f"output {name!r} has rows of shape {list(got)}, the signature says {_shown(wanted)}")


def _fits(size: int, axis: AxisSpec) -> bool:
    return size <= axis.max if isinstance(axis, Axis) else size == axis


def _shown(axes: tuple[AxisSpec, ...]) -> str:
    return f"[{', '.join(f'{a.name} (at most {a.max})' if isinstance(a, Axis) else str(a) for a in axes)}]"
