"""Training of pricing.demand: choosing columns, and fitting a line or trees to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from mercato_plugin.spec import FIELD_NAME
from mercato_pricing import columns
from mercato_pricing.columns import Category, Columns, Numeric
from mercato_pricing.network import TREES, WEIGHTS, Line
from mercato_training import (
    Column,
    Data,
    EvaluateContext,
    Evaluation,
    Parts,
    Table,
    TableSchema,
    TrainContext,
    TrainingError,
    option,
    regression,
)

RECORDED = 32
"""Held-out rows whose predictions are recorded for the certificate."""

MAX_WORDS = 200
"""Different words of a column up to which it is a category; one with more, such as an id, is left out."""


@dataclass(frozen=True)
class DemandOptions:
    """What `--set` may say."""

    target: str = option("units", doc="the column to predict")
    table: str = option("sales", doc="the table, where the data is a folder")
    algorithm: Literal["linear", "trees"] = option("linear", doc="linear regression, or gradient-boosted trees")
    columns: tuple[str, ...] = option((), doc="the columns to predict from; all that are fit for it when not given")
    time: str = option("", doc="a column of times: the latest rows are held out instead of random ones")
    learning_rate: float = option(0.02, doc="step of AdamW for the line", low=1e-6, high=10.0)
    batch_rows: int = option(0, doc="rows of one step; 0 = a hundredth of all, at least 64", low=0)
    shrinkage: float = option(0.05, doc="share of each tree that counts", low=1e-6, high=1.0)
    trees: int = option(300, doc="most trees", low=1, high=5000)


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit the chosen columns of the table to its target."""
    options = ctx.options(DemandOptions)
    schema = _schema(data, options)
    table = data.table(schema)
    names = _usable(table, schema, options, ctx)
    parts = data.parts(table, by=_key(options.target, names), after=options.time)
    found = _found(parts.train, names, schema, options)
    fit = _fit_line if found.algorithm == "linear" else _fit_trees
    predict = fit(parts, found, options, ctx)
    ctx.save_json(columns.FILE, found.to_json())
    shown = parts.test.take(np.arange(min(RECORDED, parts.test.rows)))
    ctx.record(_inputs(shown, found), {"prediction": predict(shown)})
    return regression(parts.test[found.target], predict(parts.test), found.mean)


def evaluate(data: Data, predict: Callable[[Mapping[str, Any]], Mapping[str, Any]], ctx: EvaluateContext) -> Evaluation:
    """What the served model scores on the rows that training held out."""
    found = columns.read(ctx.files)
    options = DemandOptions(found.target, found.table, columns=found.names, time=found.time)
    table = data.table(_schema(data, options))
    test = data.held_out(table, by=_key(found.target, found.names), after=found.time)
    answers = predict(_inputs(test, found))
    return regression(test[found.target], answers["prediction"], found.mean)


def _schema(data: Data, options: DemandOptions) -> TableSchema:
    """The columns to read. Raises TrainingError for names that no signature can have."""
    kinds = data.kinds(options.table)
    names = options.columns or tuple(name for name, kind in kinds.items() if kind != "time" and name != options.target)
    for name in (options.target, *options.columns, *([options.time] if options.time else [])):
        if name not in kinds:
            raise TrainingError(f"--set: the data has no column {name!r}; it has {', '.join(kinds)}")
    if bad := [name for name in names if not FIELD_NAME.fullmatch(name)]:
        raise TrainingError(
            f"column {bad[0]!r} cannot be the name of an input, which has lower-case letters, digits and _; "
            f"--rename {bad[0]}=OTHER gives it another one"
        )
    read = {name: Column("number" if kinds[name] == "number" else "category", optional=True) for name in names}
    timed = {options.time: Column("time")} if options.time else {}
    return TableSchema(options.table, {options.target: Column("number"), **timed, **read})


def _usable(table: Table, schema: TableSchema, options: DemandOptions, ctx: TrainContext) -> tuple[str, ...]:
    """The columns that say something: those of one value, and words of which hardly two are equal, are left out."""
    names = [name for name in schema.columns if name not in (options.target, options.time)]
    counts = {name: _different(table, name, schema.columns[name]) for name in names}
    left = {name for name, count in counts.items() if count < 2}
    left |= {name for name in names if schema.columns[name].kind == "category" and counts[name] > MAX_WORDS}
    if left and not options.columns:
        ctx.report.say("left out: " + ", ".join(f"{name} ({counts[name]} different values)" for name in sorted(left)))
        ctx.note(left_out=sorted(left))
    usable = tuple(name for name in names if name not in left)
    if not usable or (left and options.columns):
        named = sorted(left)[0] if left else options.target
        raise TrainingError(
            f"column {named!r} has {counts.get(named, 0)} different values; expected at least 2, and of words at most "
            f"{MAX_WORDS}; choose others with --set columns=..."
        )
    return usable


def _different(table: Table, name: str, column: Column) -> int:
    values = table[name]
    known = values[~np.isnan(values)] if column.kind == "number" else [word for word in values if word is not None]
    return len(set(np.asarray(known).tolist()))


def _key(target: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns whose content decides a row's part, in an order that does not depend on the file's."""
    return tuple(sorted((target, *names)))


def _found(rows: Table, names: tuple[str, ...], schema: TableSchema, options: DemandOptions) -> Columns:
    target = rows[options.target]
    numbers = [name for name in names if schema.columns[name].kind == "number"]
    words = [name for name in names if schema.columns[name].kind == "category"]
    return Columns(
        target=options.target,
        table=options.table,
        time=options.time,
        algorithm=options.algorithm,
        mean=float(target.mean()),
        scale=float(target.std()) or 1.0,
        numeric=tuple(_numeric(name, rows[name]) for name in numbers),
        categories=tuple(Category(name, _words(rows[name], target)) for name in words),
    )


def _numeric(name: str, values: Any) -> Numeric:
    known = values[~np.isnan(values)]
    if not len(known):
        raise TrainingError(f"column {name!r} has no value among the rows to fit; leave it out with --set columns=...")
    low, high, mean = float(known.min()), float(known.max()), float(known.mean())
    return Numeric(name, low, high, mean, float(known.std()) or 1.0)


def _words(values: Any, target: Any) -> tuple[str, ...]:
    """The words of a column, ordered by the mean of their target, which is what makes them splittable by trees."""
    means: dict[str, list[float]] = {}
    for word, value in zip(values.tolist(), target.tolist(), strict=True):
        if word is not None:
            means.setdefault(word, []).append(value)
    return tuple(sorted(means, key=lambda word: (sum(means[word]) / len(means[word]), word)))


Predict = Callable[[Table], Any]


def _fit_line(parts: Parts, found: Columns, options: DemandOptions, ctx: TrainContext) -> Predict:
    """It stops when the error of the rows that it is fitted to falls no more: a line has too few weights to overfit."""
    line = Line(found)
    arrays, target = _tensors(parts.train, found, ctx), _target(parts.train, found, ctx)

    def errors(module: torch.nn.Module, *rows: torch.Tensor) -> torch.Tensor:
        wanted = target[rows[0]] if rows else target
        given = [array[rows[0]] for array in arrays] if rows else arrays
        return torch.square((module(*given) - wanted) / found.scale)[:, 0]

    ctx.fit(
        line,
        parts.train.rows,
        errors,
        lambda module: float(errors(module).mean()),
        epochs=300,
        learning_rate=options.learning_rate,
        batch_rows=options.batch_rows or max(64, parts.train.rows // 100),
        patience=25,
    )
    ctx.save_tensors(WEIGHTS, line.state_dict())

    def predict(table: Table) -> Any:
        with torch.no_grad():
            return line(*_tensors(table, found, ctx))[:, 0].cpu().numpy()

    return predict


def _fit_trees(parts: Parts, found: Columns, options: DemandOptions, ctx: TrainContext) -> Predict:
    trees = HistGradientBoostingRegressor(
        learning_rate=options.shrinkage,
        max_iter=ctx.epochs or options.trees,
        early_stopping=True,
        n_iter_no_change=10,
        random_state=ctx.seed,
    )
    features = _features(parts.train, found)
    stop = _features(parts.validation, found)
    trees.fit(features, parts.train[found.target], X_val=stop, y_val=parts.validation[found.target])
    ctx.note(trees=int(trees.n_iter_))
    ctx.report.step("trees", int(trees.n_iter_), int(trees.n_iter_))
    ctx.save_estimator(TREES, trees, features[:1], input="features", output="prediction")
    return lambda table: trees.predict(_features(table, found))


def _tensors(table: Table, found: Columns, ctx: TrainContext) -> list[torch.Tensor]:
    """What the line takes, of the kinds of columns that there are."""
    numbers, codes = found.numbers(table.columns, table.rows), found.words(table.columns, table.rows)
    return [torch.from_numpy(array).to(ctx.device) for array in (numbers, codes) if array.shape[1]]


def _target(table: Table, found: Columns, ctx: TrainContext) -> torch.Tensor:
    return torch.from_numpy(table[found.target])[:, None].to(ctx.device)


def _features(table: Table, found: Columns) -> Any:
    return found.features(found.numbers(table.columns, table.rows), found.words(table.columns, table.rows))


def _inputs(table: Table, found: Columns) -> dict[str, Any]:
    """A request with the rows of a table; what is missing is NaN or empty."""
    numbers = {column.name: table[column.name] for column in found.numeric}
    words = {c.name: np.array([word or "" for word in table[c.name]], object) for c in found.categories}
    return numbers | words
