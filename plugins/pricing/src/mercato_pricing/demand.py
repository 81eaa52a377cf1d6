"""The model pricing.demand: a number predicted from the named columns of a table; imports no build tool."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mercato_plugin import (
    Batch,
    BatchPolicy,
    BuildContext,
    Example,
    Field,
    FolderError,
    GraphSpec,
    LoadContext,
    Model,
    ModelSpec,
    SpecContext,
    Tensor,
    Text,
)
from mercato_plugin.examples import read_examples
from mercato_pricing import columns
from mercato_pricing.columns import Columns

MAX_WORD_BYTES = 256
TREES_TOLERANCE = 1e-6
"""onnxruntime sums trees in float32."""


class DemandModel(Model):
    """Demand or price by regression on tables, linear or by trees; columns may be missing."""

    name = "pricing.demand"
    build: Any = "mercato_pricing.network:build"
    train: Any = "mercato_pricing.demand_training:train"
    evaluate: Any = "mercato_pricing.demand_training:evaluate"
    _columns: Columns

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The columns of the table that was fitted, each optional."""
        found = columns.read(_files(ctx.files))
        is_linear = found.algorithm == "linear"
        return ModelSpec(
            name=self.name,
            inputs=_inputs(found),
            outputs={"prediction": Tensor("float64", ("batch",), doc=f"predicted {found.target}")},
            graph=_linear_graph(found) if is_linear else _trees_graph(found),
            tolerance={} if is_linear else {"prediction": TREES_TOLERANCE},
            batch=BatchPolicy(max_rows=1024),
            doc=f"{found.target}, predicted from {len(_inputs(found))} columns by {found.algorithm} regression.",
            license="Apache-2.0",
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """What training recorded."""
        return read_examples(_files(ctx.files) / "examples.json")

    def load(self, ctx: LoadContext) -> None:
        """Read the columns that build saved."""
        self._columns = columns.read(ctx.files)

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        """Numbers and codes side by side; what is absent is missing in every row."""
        values = {column.name: _numbers(batch, column.name) for column in self._columns.numeric}
        numbers = self._columns.numbers(values, batch.rows)
        texts = {category.name: batch.inputs[category.name].tolist() for category in self._columns.categories}
        codes = self._columns.words(texts, batch.rows)
        if self._columns.algorithm == "trees":
            return {"features": self._columns.features(numbers, codes)}
        return {name: array for name, array in (("numbers", numbers), ("codes", codes)) if array.shape[1]}

    def postprocess(self, outputs: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
        """One number per row."""
        return {"prediction": outputs["prediction"][:, 0]}


def _numbers(batch: Batch, name: str) -> Any:
    return np.where(batch.present[name], batch.inputs[name], np.nan)


def _inputs(found: Columns) -> dict[str, Field]:
    numbers: dict[str, Field] = {
        column.name: Tensor(
            "float64",
            ("batch",),
            optional=True,
            finite=False,
            doc=f"fitted from {column.low:g} to {column.high:g}; NaN or absent is missing",
        )
        for column in found.numeric
    }
    words: dict[str, Field] = {
        category.name: Text(
            max_bytes=MAX_WORD_BYTES, optional=True, doc=f"one of {_listed(category.words)}; others count as missing"
        )
        for category in found.categories
    }
    return numbers | words


def _listed(words: tuple[str, ...]) -> str:
    shown = ", ".join(words[:8])
    return shown + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _linear_graph(found: Columns) -> GraphSpec:
    inputs: dict[str, Tensor] = {}
    if found.numeric:
        inputs["numbers"] = Tensor("float64", ("batch", len(found.numeric)), finite=False)
    if found.categories:
        inputs["codes"] = Tensor("int64", ("batch", len(found.categories)), low=0, high=found.codes - 1)
    return GraphSpec(inputs=inputs, outputs={"prediction": Tensor("float64", ("batch", 1))})


def _trees_graph(found: Columns) -> GraphSpec:
    features = Tensor("float64", ("batch", len(found.names)), finite=False)
    return GraphSpec(inputs={"features": features}, outputs={"prediction": Tensor("float64", ("batch", 1))})


def _files(files: Path | None) -> Path:
    if files is None:
        raise FolderError("pricing.demand has no model folder; train it: mercato train pricing.demand --data ...")
    return files
