"""Training of pricing.demand: choosing columns, and fitting a line or trees to them."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from mercato_training.schema import ROW_KEY
from mercato_training.texts import counted, listed, shown

RECORDED = 32
"""Held-out rows whose predictions are recorded for the certificate."""

USER = "user_id"
"""A column of people's ids: nothing is predicted from it unless somebody asks for it."""

ID = "sale_id"
"""A column that only tells rows apart: copies of a row count once, and nothing is predicted from it."""

MAX_WORDS = 200
"""Different words of a column up to which it is a category; one with more, such as an id, is left out."""


@dataclass(frozen=True)
class DemandOptions:
    """What `--set` may say."""

    target: str = option("units", doc="the column to predict")
    table: str = option("sales", doc="the table, where the data is a folder")
    algorithm: Literal["linear", "trees"] = option("linear", doc="linear regression, or gradient-boosted trees")
    columns: tuple[str, ...] = option((), doc="the columns to predict from; all that are fit for it when not given")
    categories: tuple[str, ...] = option((), doc="those of them that are words, whatever they look like")
    time: str = option("", doc="a column of times: the latest rows are held out instead of random ones")
    learning_rate: float = option(0.02, doc="step of AdamW for the line", low=1e-6, high=10.0)
    batch_rows: int = option(0, doc="rows of one step; 0 = a hundredth of all, at least 64", low=0)
    shrinkage: float = option(0.05, doc="share of each tree that counts", low=1e-6, high=1.0)
    trees: int = option(300, doc="most trees", low=1, high=5000)


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit the chosen columns of the table to its target."""
    options = ctx.options(DemandOptions)
    kinds = data.kinds(options.table)
    schema = _schema(kinds, options)
    table = data.table(schema)
    if ID in schema.key and any(word is None or word != word for word in table[ID].tolist()):
        schema = replace(schema, key=tuple(sorted(kinds)))
        table = data.table(schema)
    names = _usable(table, schema, options, _people(kinds, options), ctx)
    parts = data.parts(table, by=ROW_KEY, after=options.time)
    if options.algorithm == "linear":  # it never looks at the rows to stop by
        parts = replace(parts, train=parts.train.with_rows(parts.validation))
    found = _found(parts.train, names, schema, options)
    fit = _fit_line if found.algorithm == "linear" else _fit_trees
    predict = fit(parts, found, options, ctx)
    ctx.save_json(columns.FILE, found.to_json())
    first = parts.test.take(np.arange(min(RECORDED, parts.test.rows)))
    ctx.record(_inputs(first, found), {"prediction": predict(first)})
    return regression(parts.test[found.target], predict(parts.test), found.mean)


def evaluate(data: Data, predict: Callable[[Mapping[str, Any]], Mapping[str, Any]], ctx: EvaluateContext) -> Evaluation:
    """What the served model scores on the rows that training held out."""
    found = columns.read(ctx.files)
    table = data.table(_fitted_schema(found, is_whole=data.is_whole))
    if absent := [name for name in found.names if name not in table]:
        raise TrainingError(
            f"{found.table}: column {absent[0]!r}, which the model was fitted to, is missing; "
            f"there are {listed(data.kinds(found.table))}; --rename THEIRS={absent[0]} takes one of another name"
        )
    by = ROW_KEY if found.key else tuple(sorted((found.target, *found.names)))  # older folders have no key
    test = data.held_out(table, by=by, after=found.time)
    answers = predict(_inputs(test, found))
    return regression(test[found.target], answers["prediction"], found.mean)


def _schema(kinds: Mapping[str, str], options: DemandOptions) -> TableSchema:
    """The columns to read. Raises TrainingError for those that are not there, or cannot be named in a signature."""
    for option_name, names in _named(options).items():
        if absent := [name for name in names if name not in kinds]:
            raise TrainingError(
                f"--set {option_name}: the data has no column {absent[0]!r}; it has {listed(kinds)}; "
                f"--rename THEIRS={absent[0]} takes one of another name"
            )
    _check_chosen(kinds, options)
    no_features = (options.target, options.time, ID, USER)
    names = options.columns or tuple(
        name for name, kind in kinds.items() if kind not in ("time", "user") and name not in no_features
    )
    if not names:
        raise TrainingError(f"{options.table}: beside {options.target!r} there is no column to predict from")
    if stray := [name for name in options.categories if name not in names]:
        raise TrainingError(f"--set categories: {stray[0]!r} is not among the columns to predict from")
    if bad := [name for name in names if not FIELD_NAME.fullmatch(name)]:
        raise TrainingError(
            f"column {bad[0]!r} cannot be the name of an input, which has lower-case letters, digits and _; "
            f"--rename {_argument(bad[0])}=OTHER gives it another one"
        )
    read = {name: _column(name, kinds[name] == "number" and name not in options.categories) for name in names}
    has_ids = ID in kinds and ID not in (options.target, options.time)
    key = (ID,) if has_ids else tuple(sorted(kinds))
    return _table_schema(options.table, options.target, options.time, read, key)


def _check_chosen(kinds: Mapping[str, str], options: DemandOptions) -> None:
    """Raises TrainingError for a chosen column of which nothing can be predicted, or must not be."""
    for name in options.columns:
        if name in (options.target, options.time) or kinds[name] == "time":
            what = "to be predicted" if name == options.target else "a time"
            raise TrainingError(f"--set columns: {name!r} is {what}, so nothing is predicted from it; leave it out")
        if name != USER and kinds[name] == "user":
            raise TrainingError(
                f"--set columns: {name!r} has numbers that point to people, such as phones or cards, which would stand "
                "in the model; leave it out"
            )


def _people(kinds: Mapping[str, str], options: DemandOptions) -> list[str]:
    """The columns that are left out because they point to people."""
    used = (options.target, options.time, ID, *options.columns)
    return [name for name, kind in kinds.items() if (kind == "user" or name == USER) and name not in used]


def _named(options: DemandOptions) -> dict[str, tuple[str, ...]]:
    """The columns that each option names."""
    time = (options.time,) if options.time else ()
    return {"target": (options.target,), "columns": options.columns, "categories": options.categories, "time": time}


def _argument(name: str) -> str:
    """A column's name as a shell takes it."""
    return shlex.quote(name) if " " in name else name


def _fitted_schema(found: Columns, *, is_whole: bool) -> TableSchema:
    """The columns that a model was fitted to, each as it was then."""
    read = {column.name: Column("number", optional=True) for column in found.numeric}
    read |= {category.name: _column(category.name, False) for category in found.categories}
    return _table_schema(found.table, found.target, found.time, read, () if is_whole else found.key)


def _table_schema(table: str, target: str, time: str, read: Mapping[str, Column], key: tuple[str, ...]) -> TableSchema:
    timed = {time: Column("time")} if time else {}
    known = {ID: Column("id", optional=True), USER: Column("user", optional=True)}
    return TableSchema(table, {**known, **read, target: Column("number"), **timed}, key)


def _column(name: str, is_number: bool) -> Column:
    if name == USER:
        return Column("user", optional=True)
    hint = f"--set categories={name} takes the column as words"
    return Column("number", optional=True, hint=hint) if is_number else Column("category", optional=True)


def _usable(
    table: Table, schema: TableSchema, options: DemandOptions, people: Sequence[str], ctx: TrainContext
) -> tuple[str, ...]:
    """The columns that say something: those of one value, and words of which hardly two are equal, are left out."""
    read = [name for name, column in schema.columns.items() if column.optional and name in table]
    names = [name for name in read if name in options.columns or name not in (ID, USER)]
    counts = {name: _different(table, name, schema.columns[name]) for name in names}
    left = {name for name, count in counts.items() if count < 2}
    left |= {name for name in names if schema.columns[name].kind != "number" and counts[name] > MAX_WORDS}
    if left and options.columns:
        name = sorted(left)[0]
        raise TrainingError(
            f"column {name!r} has {counted(counts[name], 'different value')}; expected at least 2, and of words at "
            f"most {MAX_WORDS}; choose others with --set columns=..."
        )
    told = ", ".join(f"{shown(name)} ({counted(counts[name], 'different value')})" for name in sorted(left))
    if len(left) == len(names):
        raise TrainingError(f"{table.name}: there is no column to predict from: {told}; expected at least 2 values")
    if people and not options.columns:
        told = ", ".join([*([told] if told else []), *(f"{shown(name)} (points to people)" for name in people)])
        left |= set(people)
    if left:
        ctx.report.say(f"left out: {told}")
        ctx.note(left_out=sorted(left))
    return tuple(name for name in names if name not in left)


def _different(table: Table, name: str, column: Column) -> int:
    values = table[name]
    known = values[~np.isnan(values)] if column.kind == "number" else [word for word in values if word is not None]
    return len(set(np.asarray(known).tolist()))


def _found(rows: Table, names: tuple[str, ...], schema: TableSchema, options: DemandOptions) -> Columns:
    target = rows[options.target]
    numbers = [name for name in names if schema.columns[name].kind == "number"]
    words = [name for name in names if schema.columns[name].kind != "number"]
    return Columns(
        target=options.target,
        table=options.table,
        time=options.time,
        algorithm=options.algorithm,
        mean=float(target.mean()),
        scale=float(target.std()) or 1.0,
        numeric=tuple(_numeric(name, rows[name]) for name in numbers),
        categories=tuple(Category(name, _words(rows[name], target)) for name in words),
        key=schema.key,
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
    """They are as many as score best on the validation rows; those that the search went on for are no part of them."""
    features = _features(parts.train, found)
    stop = _features(parts.validation, found)

    def fitted(count: int, **stopping: Any) -> HistGradientBoostingRegressor:
        trees = HistGradientBoostingRegressor(
            learning_rate=options.shrinkage, max_iter=count, n_iter_no_change=10, random_state=ctx.seed,
            early_stopping=bool(stopping),
        )  # fmt: skip
        return trees.fit(features, parts.train[found.target], **stopping)

    tried = fitted(ctx.epochs or options.trees, X_val=stop, y_val=parts.validation[found.target])
    trees = fitted(max(1, int(np.argmax(tried.validation_score_))))
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
