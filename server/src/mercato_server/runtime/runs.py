"""Cutting a batch into runs: rows sorted by length, padded to the longest row of each run."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mercato_plugin import Batch, BatchPolicy, GraphSpec, Ragged
from mercato_server.contract.batch import Array, concatenated
from mercato_server.runtime.bounds import Bounds
from mercato_server.runtime.session import Session, ValuesRefused

Indices = npt.NDArray[np.int64]


def cut(lengths: Indices, policy: BatchPolicy) -> list[Indices]:
    """Row indices of each run: longest rows first, every run within `run_rows`, `run_cells` and `max_padding`.

    A row that is longer than `run_cells` is a run of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    sizes = lengths[order].tolist()
    runs, start, real = [], 0, 0
    limit = _most_rows(policy, int(lengths.max(initial=0)), len(sizes))
    for index, size in enumerate(sizes):
        count = index - start + 1
        padding = 1 - (real + size) / (count * sizes[start]) if sizes[start] else 0.0
        if count > limit or padding > policy.max_padding:
            runs.append(order[start:index])
            start, real = index, 0
            limit = _most_rows(policy, size, len(sizes))
        real += size
    runs.append(order[start:])
    return runs


def _most_rows(policy: BatchPolicy, longest: int, rows: int) -> int:
    """How many of the rows one run takes when its longest row is so long; an empty row is padded to one cell."""
    of_cells = rows if policy.run_cells is None else max(1, policy.run_cells // max(1, longest))
    return min(policy.run_rows or rows, of_cells)


def pad(ragged: Ragged, rows: Indices, value: float) -> Array:
    """The chosen rows as one rectangular array, padded behind each row to the longest of them."""
    lengths = ragged.lengths[rows]
    starts = np.cumsum(ragged.lengths) - ragged.lengths
    steps = np.arange(max(int(lengths.max(initial=0)), 1))
    inside = steps < lengths[:, None]
    padded = np.full((len(rows), len(steps), *ragged.values.shape[1:]), value, ragged.values.dtype)
    padded[inside] = ragged.values[(starts[rows][:, None] + steps)[inside]]
    return padded


class GraphRunner:
    """The graphs of one model: what `predict(batch, graphs)` calls, and what counts the work.

    One runner serves one batch; `compute_ns`, `cells` and `real_cells` add up over its runs.
    """

    def __init__(self, sessions: Mapping[str, Session], specs: Mapping[str, GraphSpec], policy: BatchPolicy) -> None:
        self._sessions = sessions
        self._specs = specs
        self._policy = policy
        self.compute_ns = 0
        self.cells = 0
        self.real_cells = 0

    @property
    def padding(self) -> float:
        """Share of computed cells that were padding."""
        return 1 - self.real_cells / self.cells if self.cells else 0.0

    def run(self, inputs: Mapping[str, Array | Ragged], graph: str = "model") -> dict[str, Array]:
        """Outputs of one graph for all rows, in the order of the rows.

        Raises ValueError for a `Ragged` that the graph's specification does not allow.
        """
        ragged = next((value for value in inputs.values() if isinstance(value, Ragged)), None)
        if ragged is not None:
            return self._run_ragged(inputs, ragged.lengths, graph)
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        rows = len(next(iter(arrays.values())))
        limit = self._policy.run_rows or rows
        if rows <= limit:
            return self._timed(graph, arrays)
        starts = range(0, rows, limit)
        return _stack([self._timed(graph, {n: a[s : s + limit] for n, a in arrays.items()}) for s in starts])

    def _run_ragged(self, inputs: Mapping[str, Array | Ragged], lengths: Indices, graph: str) -> dict[str, Array]:
        _check_ragged(inputs, self._specs[graph], graph)
        runs = cut(lengths, self._policy)
        parts = [self._timed(graph, self._take(inputs, rows, graph)) for rows in runs]
        self.cells += sum(len(rows) * int(lengths[rows].max()) for rows in runs)
        self.real_cells += int(lengths.sum())
        return _reorder(_stack(parts), np.concatenate(runs))

    def _take(self, inputs: Mapping[str, Array | Ragged], rows: Indices, graph: str) -> dict[str, Array]:
        spec = self._specs[graph]
        taken = {
            name: pad(value, rows, spec.inputs[name].pad) if isinstance(value, Ragged) else np.asarray(value)[rows]
            for name, value in inputs.items()
        }
        if spec.lengths is not None and spec.lengths not in taken:
            first = next(value for value in inputs.values() if isinstance(value, Ragged))
            taken[spec.lengths] = first.lengths[rows]
        return taken

    def _timed(self, graph: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        start = time.perf_counter_ns()
        outputs = self._sessions[graph].run(arrays)
        self.compute_ns += time.perf_counter_ns() - start
        return outputs


class GuardedRunner(GraphRunner):
    """The same for one batch of callers, whose values may lie outside what the graphs take."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        specs: Mapping[str, GraphSpec],
        policy: BatchPolicy,
        bounds: Bounds,
        batch: Batch,
    ) -> None:
        super().__init__(sessions, specs, policy)
        self._bounds = bounds
        self._batch = batch

    def run(self, inputs: Mapping[str, Array | Ragged], graph: str = "model") -> dict[str, Array]:
        """As above. Raises InvalidInput too, naming the graph's input and, where they are known, the rows."""
        self._bounds.check(graph, inputs, self._batch)
        try:
            return super().run(inputs, graph)
        except ValuesRefused as error:
            raise (self._bounds.refused(graph, inputs, self._batch) or error) from error


def _check_ragged(inputs: Mapping[str, Array | Ragged], spec: GraphSpec, graph: str) -> None:
    """Only what the specification declares ragged was certified with padding behind its rows."""
    ragged = {name: value for name, value in inputs.items() if isinstance(value, Ragged)}
    first = next(iter(ragged))
    for name, value in ragged.items():
        if name not in spec.inputs or not spec.inputs[name].ragged:
            raise ValueError(
                f"graph {graph!r}: input {name!r} got a Ragged, but its GraphSpec does not declare it ragged; "
                "write ragged=True in the input's Tensor, so that the certificate checks its padding"
            )
        if not np.array_equal(value.lengths, ragged[first].lengths):
            raise ValueError(
                f"graph {graph!r}: the rows of {name!r} differ in length from those of {first!r}; "
                "ragged inputs of one graph share one axis, so their rows must have equal lengths"
            )


def _stack(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Join the runs' outputs along the rows."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: concatenated([part[name] for part in parts]) for name in parts[0]}


def _reorder(outputs: Mapping[str, Array], order: Indices) -> dict[str, Array]:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return {name: array[inverse] for name, array in outputs.items()}
