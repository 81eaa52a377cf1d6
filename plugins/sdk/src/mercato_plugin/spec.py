"""A model's specification, and its frozen form: plain data that can be hashed, stored and read back."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mercato_plugin.errors import SpecError
from mercato_plugin.fields import BATCH, Field, Label, Tensor, Text
from mercato_plugin.parameters import Int, Parameter

MODEL_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
MAX_NAME = 64
MAX_VERSION = 2**31 - 1

# Batches that the rows of one request may fill, unless the author says how many rows it may have.
REQUEST_BATCHES = 16


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How requests are joined and how a joined batch is cut into runs.

    A batch holds at most `max_rows` rows, and at most `max_cost` weight (text: UTF-8 bytes; images: pixels;
    else elements) when given. A request may have more rows, at most `request_rows`, and is then run in several
    batches; None means 16 times `max_rows`.

    Rows of variable length are sorted and cut into runs of at most `run_rows` rows and `run_cells` cells (rows times
    the longest of them) whose padding stays under the share `max_padding`; a row of more than `run_cells` runs alone.
    `run_cells` bounds runs of `Ragged` rows only.
    """

    max_rows: int = 64
    request_rows: int | None = None
    max_cost: int | None = None
    run_rows: int | None = None
    run_cells: int | None = None
    max_padding: float = 0.25

    def __post_init__(self) -> None:
        for name in ("max_rows", "request_rows", "max_cost", "run_rows", "run_cells"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SpecError(f"batch.{name} must be at least 1, got {value}")
        if self.rows_per_request < self.max_rows:
            raise SpecError(f"batch.request_rows must be at least max_rows = {self.max_rows}, got {self.request_rows}")
        if not 0 <= self.max_padding < 1:
            raise SpecError(f"batch.max_padding must be in [0, 1), got {self.max_padding}")

    @property
    def rows_per_request(self) -> int:
        """Most rows of one request."""
        return REQUEST_BATCHES * self.max_rows if self.request_rows is None else self.request_rows


@dataclass(frozen=True)
class TopK:
    """The rows of a request are candidates, and its answer has the best of them, best first.

    `by` names the output that ranks them, one number per row; larger is better, NaN is worst, and of equal rows the
    earlier is better. `k` names an `Int` parameter: how many rows an answer has at most. `index` names an output that
    the server adds: int64, the place of each answer row among the request's rows, counted from 0. Inputs with
    `shared=True` are the context that a caller sends once for all candidates.
    """

    by: str
    k: str
    index: str


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One exported graph's own tensors, where they differ from the caller's.

    `low`, `high`, axis maxima and `pad` drive export axes, generated parity inputs and padding.
    Axes of the same name have the same size. An input that gets `Ragged` rows is declared
    with `ragged=True`; all such inputs share one axis. `lengths` names an int64 input of shape
    (batch,) that holds the true length of each row along that axis, if the graph takes one;
    the runtime fills it from the `Ragged` inputs.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    lengths: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", dict(self.inputs))
        object.__setattr__(self, "outputs", dict(self.outputs))
        if not self.inputs or not self.outputs:
            raise SpecError("a graph needs at least one input and one output")
        if self.lengths is not None and self.lengths not in self.inputs:
            raise SpecError(f"lengths names {self.lengths!r}, which is not an input of the graph")
        _check_ragged(self)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All a server needs to know of a model before it builds it.

    `graph` is one GraphSpec, or a mapping for several graphs; left out, the graph has the caller's
    own inputs and outputs. `tolerance` maps an output, of a graph or of the model, to the relative L2
    error it may reach, where the default for its dtype does not fit; `quality` is the bound a faster variant must
    keep. `opset` overrides the exporter's choice. `languages` are BCP 47 tags. With `top_k` a request's rows are
    candidates of which the best are answered.
    """

    name: str
    inputs: Mapping[str, Field]
    outputs: Mapping[str, Field]
    version: int = 1
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    graph: GraphSpec | Mapping[str, GraphSpec] | None = None
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    top_k: TopK | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)
    quality: float | None = None
    opset: int | None = None
    doc: str = ""
    license: str = ""
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not MODEL_NAME.fullmatch(self.name) or len(self.name) > MAX_NAME:
            raise SpecError(
                f"model name {self.name!r} must be two lower-case words with one dot, such as 'pricing.linear', "
                f"at most {MAX_NAME} characters"
            )
        if not 1 <= self.version <= MAX_VERSION:
            raise SpecError(f"{self.name}: version must be between 1 and {MAX_VERSION}, got {self.version}")
        if not self.inputs or not self.outputs:
            raise SpecError(f"{self.name}: at least one input and one output are needed")
        for name in (*self.inputs, *self.outputs, *self.parameters):
            check_field_name(self.name, name)
        _check_kinds(self)
        for group in (self.inputs, self.outputs, self.parameters):
            check_distinct(self.name, group)
        _check_first_axes(self)
        _check_tolerance(self)
        if self.top_k is not None:
            _check_top_k(self, self.top_k)
        for name in ("inputs", "outputs", "parameters", "tolerance"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        object.__setattr__(self, "languages", tuple(self.languages))

    @property
    def graphs(self) -> dict[str, GraphSpec]:
        """Every graph by name; a single one is called `model`."""
        if self.graph is None:
            return {"model": GraphSpec(inputs=_tensors(self, self.inputs), outputs=_tensors(self, self.outputs))}
        if isinstance(self.graph, GraphSpec):
            return {"model": self.graph}
        return dict(self.graph)


def check_field_name(model: str, name: str) -> None:
    """Refuse a field name that is not lower-case words joined by dots, or is too long."""
    if not FIELD_NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise SpecError(
            f"{model}: field name {name!r} must be lower-case words joined by dots, at most {MAX_NAME} characters"
        )


def check_distinct(model: str, names: Mapping[str, object]) -> None:
    """Refuse two names that are equal after `.` -> `_`: generated clients could not tell them apart."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_as_word(name), name)
        if other != name:
            raise SpecError(f"{model}: names {other!r} and {name!r} are equal after '.' -> '_'")


def _check_kinds(spec: ModelSpec) -> None:
    for name, item in (*spec.inputs.items(), *spec.outputs.items()):
        if not isinstance(item, Field):
            raise SpecError(f"{spec.name}: {name!r} is {_kind(item)}, expected one of Tensor, Text, Image, Label")
    for name, parameter in spec.parameters.items():
        if not isinstance(parameter, Parameter):
            raise SpecError(
                f"{spec.name}: {name!r} is {_kind(parameter)}, expected one of Int, Float, Bool, Choice, Str"
            )


def _kind(value: object) -> str:
    return type(value).__name__


def _check_first_axes(spec: ModelSpec) -> None:
    for name, item in (*spec.inputs.items(), *spec.outputs.items()):
        axes = item.axes if isinstance(item, Tensor | Label) else (BATCH,)
        starts = bool(axes) and axes[0] == BATCH
        if isinstance(item, Tensor | Label) and starts == item.shared:
            wanted = "no batch axis, because it is shared" if item.shared else "'batch' as its first axis"
            raise SpecError(f"{spec.name}: field {name!r} must have {wanted}")
    for name, item in spec.inputs.items():
        if isinstance(item, Text) and item.row_axes:
            raise SpecError(f"{spec.name}: input {name!r} has several strings per row; only outputs may, write Text()")
    for name, item in spec.outputs.items():
        if item.shared or item.optional:
            raise SpecError(f"{spec.name}: output {name!r} cannot be shared or optional")


def _check_tolerance(spec: ModelSpec) -> None:
    graphs = [spec.graph] if isinstance(spec.graph, GraphSpec) else list((spec.graph or {}).values())
    outputs = {*spec.outputs} | {name for graph in graphs for name in graph.outputs}
    tolerance: Mapping[str, Any] = spec.tolerance
    for name, value in tolerance.items():
        if name not in outputs:
            raise SpecError(f"{spec.name}: tolerance names {name!r}; the outputs are {sorted(outputs)}")
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise SpecError(f"{spec.name}: tolerance of {name!r} must be a finite number of at least 0, got {value!r}")


def _check_top_k(spec: ModelSpec, top_k: TopK) -> None:
    if not isinstance(top_k, TopK):
        raise SpecError(f"{spec.name}: top_k is {_kind(top_k)}, expected TopK")
    by, k = spec.outputs.get(top_k.by), spec.parameters.get(top_k.k)
    if not (isinstance(by, Tensor) and by.dtype != "bool" and by.row_axes in ((), (1,))):
        raise SpecError(
            f"{spec.name}: top_k.by names {top_k.by!r}, expected an output of one number per row: "
            'a Tensor, not of bool, with axes ("batch",) or ("batch", 1)'
        )
    if not isinstance(k, Int) or k.per_row or k.low is None or k.low < 1:
        raise SpecError(
            f"{spec.name}: top_k.k names {top_k.k!r}, expected an Int parameter whose low is at least 1, not per_row"
        )
    check_field_name(spec.name, top_k.index)
    taken = [n for n in (*spec.inputs, *spec.outputs, *spec.parameters) if _as_word(n) == _as_word(top_k.index)]
    if taken:
        raise SpecError(
            f"{spec.name}: top_k.index is {top_k.index!r}, expected a name that no input, output or parameter has; "
            f"there is {taken[0]!r}"
        )


def _as_word(name: str) -> str:
    """What generated clients call it."""
    return name.replace(".", "_")


def _check_ragged(graph: GraphSpec) -> None:
    for name, tensor in graph.inputs.items():
        if tensor.ragged and tensor.axes[0] != BATCH:
            raise SpecError(f"a graph's ragged input {name!r} must have 'batch' as its first axis")
    ragged = {name: tensor.axes[1] for name, tensor in graph.inputs.items() if tensor.ragged}
    if graph.lengths is not None and not ragged:
        raise SpecError(
            f"lengths names {graph.lengths!r}, but no input of the graph is ragged: write ragged=True in one"
        )
    if len(set(ragged.values())) > 1:
        names = ", ".join(map(repr, ragged))
        raise SpecError(f"ragged inputs {names} have different axes; give all of them the same Axis")


def _tensors(spec: ModelSpec, fields: Mapping[str, Field]) -> dict[str, Tensor]:
    """The caller's own fields as graph tensors, which only works when all of them are tensors."""
    for name, item in fields.items():
        if not isinstance(item, Tensor):
            raise SpecError(
                f"{spec.name}: {name!r} is {item.kind}, which a graph cannot take; state the graph's own tensors "
                "with graph=GraphSpec(inputs=..., outputs=...)"
            )
    return {name: _with_batch(item) for name, item in fields.items() if isinstance(item, Tensor)}


def _with_batch(item: Tensor) -> Tensor:
    """A shared input reaches the graph once per row."""
    return replace(item, axes=(BATCH, *item.axes), shared=False) if item.shared else item
