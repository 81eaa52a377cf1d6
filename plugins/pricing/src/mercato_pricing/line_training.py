"""Training of pricing.linear: a line fitted to the columns x and y of a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mercato_pricing.line import WEIGHTS
from mercato_training import (
    Column,
    Data,
    EvaluateContext,
    Evaluation,
    Table,
    TableSchema,
    TrainContext,
    TrainingError,
    option,
    regression,
)

SCHEMA = TableSchema("prices", {"x": Column("number"), "y": Column("number")})

STEEPEST = 1e30
"""Slope and offset of a line: both are float32 when it is served, and so is what it answers."""


@dataclass(frozen=True)
class LineOptions:
    """What `--set` may say."""

    learning_rate: float = option(0.05, doc="step of AdamW on standardised numbers", low=1e-6, high=10.0)
    batch_rows: int = option(64, doc="rows of one step", low=1)


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit a line to the columns x and y of the table `prices`."""
    options = ctx.options(LineOptions)
    parts = data.parts(data.table(SCHEMA))
    line = _fitted(parts.train, parts.validation, options, ctx)
    ctx.save_tensors(WEIGHTS, line.state_dict())
    ctx.save_baseline(mean := float(parts.train["y"].mean()))
    shown = parts.test["x"][:16, None].astype(np.float32)
    ctx.record({"x": shown}, {"y": _answers(line, shown)})
    predicted = _answers(line, parts.test["x"][:, None].astype(np.float32))[:, 0]
    return regression(parts.test["y"], predicted, mean)


def evaluate(data: Data, predict: Callable[[Mapping[str, Any]], Mapping[str, Any]], ctx: EvaluateContext) -> Evaluation:
    """What the served line scores on the rows that training held out."""
    table = data.table(SCHEMA)
    test = data.held_out(table)
    mean = ctx.baseline if ctx.baseline is not None else float(table["y"].mean())  # older folders have none
    answers = predict({"x": test["x"][:, None].astype(np.float32)})
    return regression(test["y"], answers["y"][:, 0], mean)


def _fitted(rows: Table, stop: Table, options: LineOptions, ctx: TrainContext) -> torch.nn.Linear:
    """The line in the table's own units; it is fitted to standardised numbers, where one step size suits all data."""
    (x, x_mean, x_scale), (y, y_mean, y_scale) = _standard(rows["x"]), _standard(rows["y"])
    check_x = torch.from_numpy((stop["x"] - x_mean) / x_scale)[:, None].to(ctx.device)
    check_y = torch.from_numpy((stop["y"] - y_mean) / y_scale)[:, None].to(ctx.device)
    x, y = x.to(ctx.device), y.to(ctx.device)
    line = torch.nn.Linear(1, 1, dtype=torch.float64)
    ctx.fit(
        line,
        rows.rows,
        lambda module, batch: torch.square(module(x[batch]) - y[batch])[:, 0],
        lambda module: float(torch.square(module(check_x) - check_y).mean()),
        epochs=300,
        patience=25,
        learning_rate=options.learning_rate,
        batch_rows=options.batch_rows,
    )
    slope = float(line.weight.detach()) * y_scale / x_scale
    offset = float(line.bias.detach()) * y_scale + y_mean - slope * x_mean
    if max(abs(slope), abs(offset)) > STEEPEST:
        raise TrainingError(
            f"pricing.linear: the line y = {slope:.4g} x + {offset:.4g} is beyond {STEEPEST:g}; write x or y in "
            "another unit"
        )
    found = torch.nn.Linear(1, 1)
    found.load_state_dict({"weight": torch.tensor([[slope]]), "bias": torch.tensor([offset])})
    return found


def _standard(values: Any) -> tuple[torch.Tensor, float, float]:
    mean, scale = float(values.mean()), float(values.std()) or 1.0
    return torch.from_numpy((values - mean) / scale)[:, None], mean, scale


def _answers(line: torch.nn.Linear, x: Any) -> Any:
    with torch.no_grad():
        return line(torch.from_numpy(x)).numpy()
