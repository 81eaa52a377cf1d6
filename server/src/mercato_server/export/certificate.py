"""The certificate: runs an exported model against its source and against itself, and gives or refuses the proof.

Checks: `parity` (generated and example inputs against the source in float64), `shapes` (where there is
no source: the graph runs and answers finite numbers), `padding` (a longer padding changes nothing),
`batch` (a row alone equals the row among others), `repeat`, `recorded` (outputs kept from the source)
and `examples` (recorded answers to whole requests).
"""

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mercato_plugin import BATCH, Example, GraphSpec, Model, ModelSpec, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.certificate import Case, Certificate, CertificateKind
from mercato_server.contract.summary import summary
from mercato_server.errors import ParityFailed
from mercato_server.export import cases, replay
from mercato_server.export.cases import Inputs
from mercato_server.export.graphs import Arrays, ExportedGraph, axis_name, named_axes, shown
from mercato_server.export.ledger import Ledger, gate
from mercato_server.export.tools import RUNTIME, versions
from mercato_server.runtime.session import Session, open_session
from mercato_server.runtime.threads import cpu_limit

PROVIDER = "cpu"


@dataclass(frozen=True)
class Subject:
    """The model to certify: its code, what it was exported to, and the files that build saved."""

    model: Model
    spec: ModelSpec
    graphs: Mapping[str, ExportedGraph]
    files: Path
    settings: Any
    examples: Sequence[Example]


def certify(subject: Subject, on_progress: Callable[[int, int], None]) -> Certificate:
    """Try everything and give the certificate.

    Raises ParityFailed with output, shapes, error and tolerance of the worst disagreement, ExportFailed
    when the source or an example cannot be run. `on_progress` hears how many cases of how many are done.
    """
    run = _Run(subject, Ledger(subject.spec.name), on_progress)
    run.generated()
    run.recorded()
    run.replayed()
    return Certificate(
        kind=_kind(subject, run.answered),
        passed=True,
        errors=run.ledger.verdict(),
        cases=tuple(run.seen),
        checks=tuple(sorted({case.check for case in run.seen})),
        opset=max(exported.opset for exported in subject.graphs.values()),
        provider=PROVIDER,
        tools=tools_of(subject.graphs),
        created=time.time(),
    )


def tools_of(graphs: Mapping[str, ExportedGraph]) -> dict[str, str]:
    """Versions of what made the files, and of the runtime that ran the checks."""
    return versions({name for exported in graphs.values() for name in exported.tools} | {*RUNTIME})


def _kind(subject: Subject, answered: Set[str]) -> CertificateKind:
    """What the graphs were held against; with several graphs, the weakest of them counts.

    Recorded answers count once every output of the model was `answered` by one of them.
    """
    graphs = subject.graphs.values()
    if all(exported.reference for exported in graphs):
        return "source"
    examples = subject.spec.outputs.keys() <= answered
    return "recorded" if examples or all(exported.reference or exported.recorded for exported in graphs) else "self"


@dataclass
class _Run:
    """One certification under way."""

    subject: Subject
    ledger: Ledger
    on_progress: Callable[[int, int], None]
    seen: list[Case] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.benches = {name: self._bench(name, exported) for name, exported in self.subject.graphs.items()}
        self.plans = {
            name: list(cases.generated(exported.spec, self.subject.spec.batch.max_rows))
            for name, exported in self.subject.graphs.items()
        }
        self.total = sum(map(len, self.plans.values())) + len(self.subject.examples)
        self.done = 0

    def generated(self) -> None:
        """Parity at every generated shape, then the invariances, graph by graph."""
        for name, bench in self.benches.items():
            for inputs in self.plans[name]:
                bench.parity(inputs)
                self._step()
            bench.invariances(self.plans[name], self.subject.spec.batch.max_rows)

    def recorded(self) -> None:
        """The graphs against outputs that were recorded with their files."""
        for name, exported in self.subject.graphs.items():
            if exported.recorded is not None:
                inputs = Inputs(dict(exported.recorded.inputs))
                self.benches[name].compare("recorded", inputs, exported.recorded.outputs, given=True)

    def replayed(self) -> None:
        """The author's examples: what reaches the graphs is one more parity case, recorded answers are compared."""
        subject = self.subject
        replay.load(subject.model, subject.spec, subject.files, subject.settings)
        taps: dict[str, Session] = {name: replay.Tap(b.session, b.tapped) for name, b in self.benches.items()}
        for example, answer in replay.answers(subject.model, subject.spec, taps, subject.examples):
            if example.outputs:
                self._compare_answer(example, example.outputs, answer)
            self._step()

    def _compare_answer(self, example: Example, expected: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        sized = {name: value for name, value in example.inputs.items() if isinstance(value, list | tuple | np.ndarray)}
        case = self._note("examples", {name: (len(value),) for name, value in sized.items()})
        for name, value in expected.items():
            if name not in self.subject.spec.outputs:
                raise ParityFailed(f"model {self.subject.spec.name!r}: an example records unknown output {name!r}")
            item = self.subject.spec.outputs[name]
            dtype = item.dtype if isinstance(item, Tensor) else item.kind
            self.ledger.tolerances.setdefault(name, self.subject.spec.tolerance.get(name, gate(dtype)))
            what = f"model {self.subject.spec.name!r}: the recorded output {name!r} of an example"
            got, recorded = replay.compared(item, answer[name], value, what)
            self.ledger.add(name, case, got, recorded, given=True)
            self.answered |= {name} if recorded.size else set()

    def _bench(self, name: str, exported: ExportedGraph) -> "_Bench":
        prefix = "" if len(self.subject.graphs) == 1 else f"{name}."
        for output, item in exported.spec.outputs.items():
            tolerance = self.subject.spec.tolerance.get(output, gate(item.dtype))
            self.ledger.tolerances[prefix + output] = tolerance
        session = open_session(exported.path, provider=PROVIDER, threads=cpu_limit())
        return _Bench(exported, session, prefix, self.ledger, self._note)

    def _note(self, check: str, shapes: Mapping[str, tuple[int, ...]]) -> Case:
        case = Case(check, dict(shapes))
        self.seen.append(case)
        return case

    def _step(self) -> None:
        self.done += 1
        self.on_progress(self.done, self.total)


@dataclass(frozen=True)
class _Bench:
    """One graph and its session, held against its source and against itself."""

    exported: ExportedGraph
    session: Session
    prefix: str
    ledger: Ledger
    note: Callable[[str, Mapping[str, tuple[int, ...]]], Case]

    @property
    def spec(self) -> GraphSpec:
        return self.exported.spec

    def parity(self, inputs: Inputs) -> None:
        """The graph against its source; without one, against itself, which only finite numbers pass."""
        reference = self.exported.reference
        got = self._run("parity" if reference else "shapes", inputs)
        expected = reference(inputs.arrays) if reference else {n: _finite_only(array) for n, array in got.items()}
        self._add("parity" if reference else "shapes", inputs, got, expected)

    def compare(self, check: str, inputs: Inputs, expected: Arrays, *, given: bool = False) -> None:
        """The graph against outputs that are known; `given` where they are the author's."""
        self._add(check, inputs, self._run(check, inputs), expected, given=given)

    def tapped(self, arrays: Arrays, outputs: Arrays) -> None:
        """A run that an example caused."""
        if self.exported.reference is not None:
            lengths = arrays[self.spec.lengths] if self.spec.lengths else None
            expected = self.exported.reference(arrays)
            self._add("parity", Inputs(dict(arrays), lengths), outputs, expected, given=True)

    def invariances(self, plan: Sequence[Inputs], max_rows: int) -> None:
        """Repeat and batch on the case with most of up to seven rows, padding where rows have lengths."""
        inputs = max((case for case in plan if _rows(case) <= 7), key=_rows)
        whole = self._run("repeat", inputs)
        self.compare("repeat", inputs, whole)
        for index in range(_rows(inputs) if max_rows > 1 else 0):
            self._row_alone("batch", inputs, index, whole, width=None)
        if inputs.lengths is not None:
            self._paddings(inputs, whole)

    def _paddings(self, inputs: Inputs, whole: Arrays) -> None:
        """Every row without its padding, and the first row with the longest padding allowed."""
        assert inputs.lengths is not None
        for index, length in enumerate(inputs.lengths):
            self._row_alone("padding", inputs, index, whole, width=int(length))
        top = named_axes(self.spec)[cases.ragged_axis(self.spec) or ""] or 1
        self._row_alone("padding", inputs, 0, whole, width=min(top, cases.MAX_CELLS))

    def _row_alone(self, check: str, inputs: Inputs, index: int, whole: Arrays, width: int | None) -> None:
        alone = cases.row(self.spec, inputs, index)
        alone = alone if width is None else cases.resized(self.spec, alone, width)
        got = self._run(check, alone)
        pairs = {name: _common(array, self._row_of(name, whole, index)) for name, array in got.items()}
        self._add(check, alone, {n: pair[0] for n, pair in pairs.items()}, {n: pair[1] for n, pair in pairs.items()})

    def _row_of(self, name: str, whole: Arrays, index: int) -> Array:
        return whole[name][index : index + 1] if self.spec.outputs[name].axes[:1] == (BATCH,) else whole[name]

    def _run(self, check: str, inputs: Inputs) -> dict[str, Array]:
        try:
            outputs = self.session.run(inputs.arrays)
        except Exception as error:  # onnxruntime's errors share no base class but Exception
            raise ParityFailed(
                f"model {self.ledger.model!r}: the graph does not run in check {check!r} at {inputs.shapes}: "
                f"{summary(error)}"
            ) from error
        self._check_shapes(check, inputs, outputs)
        return outputs

    def _check_shapes(self, check: str, inputs: Inputs, outputs: Arrays) -> None:
        sizes = cases.sizes_of(self.spec, inputs.arrays)
        for name, tensor in self.spec.outputs.items():
            wanted = [axis if isinstance(axis, int) else sizes.get(axis_name(axis) or "") for axis in tensor.axes]
            got = outputs[name].shape
            if len(got) != len(wanted) or any(w not in (None, g) for w, g in zip(wanted, got, strict=True)):
                raise ParityFailed(
                    f"model {self.ledger.model!r}: output {name!r} has shape {got}, the specification declares "
                    f"{shown(tensor)}, in check {check!r} at {inputs.shapes}"
                )

    def _add(self, check: str, inputs: Inputs, got: Arrays, expected: Arrays, *, given: bool = False) -> None:
        case = self.note(check, inputs.shapes)
        for name, tensor in self.spec.outputs.items():
            pair = got[name], expected[name]
            valid = [_valid_only(array, tensor, self.spec, inputs.lengths) for array in pair]
            self.ledger.add(self.prefix + name, case, valid[0], valid[1], given=given)


def _rows(inputs: Inputs) -> int:
    return max(shape[0] for shape in inputs.shapes.values() if shape)


def _finite_only(array: Array) -> Array:
    """The array with NaN, which agrees with nothing, in place of infinities."""
    if array.dtype.kind in "biu":
        return array
    wide = array.astype(np.float64)
    return np.where(np.isfinite(wide), wide, np.nan)


def _common(left: Array, right: Array) -> tuple[Array, Array]:
    """Both cut to the part that they have in common, where one is padded further than the other."""
    part = tuple(slice(min(sizes)) for sizes in zip(left.shape, right.shape, strict=True))
    return left[part], right[part]


def _valid_only(array: Array, tensor: Tensor, spec: GraphSpec, lengths: Array | None) -> Array:
    """The output with zeros in place of what it holds behind the rows' true lengths: nobody reads that."""
    ragged = cases.ragged_axis(spec)
    place = next((place for place, axis in enumerate(tensor.axes) if axis_name(axis) == ragged), None)
    if lengths is None or ragged is None or place is None or place == 0 or array.ndim != len(tensor.axes):
        return array
    inside = np.arange(array.shape[place]) < lengths[:, None]
    shape = [1] * array.ndim
    shape[0], shape[place] = inside.shape
    return np.where(inside.reshape(shape), array, np.zeros((), array.dtype))
