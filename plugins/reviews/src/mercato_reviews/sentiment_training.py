"""`mercato train` and `mercato evaluate` for reviews.sentiment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.metrics import log_loss

from mercato_reviews.analyzer import fitting
from mercato_reviews.known_labels import tell_unknown_labels
from mercato_reviews.lexicon import FILE, MODEL, WEIGHTS, read_lexicon
from mercato_reviews.reading import MOST_LABELS, is_language
from mercato_reviews.recording import chosen
from mercato_reviews.sentiment_fit import Regression, fitted
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
    classification,
    labels_of,
    majority_of,
    option,
)

TEXT, LABEL = "text", "sentiment"
SCHEMA = TableSchema(
    "reviews",
    {
        "review_id": Column("id", optional=True),
        TEXT: Column("text"),
        LABEL: Column("label", max_labels=MOST_LABELS),
        "user_id": Column("user", optional=True),
    },
)

STRENGTHS = (1.0, 4.0, 16.0)
"""Values of c that are tried when none is given."""

Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Options:
    """What `--set` may change."""

    analyzer: Literal["auto", "word", "char"] = option(
        "auto", doc="words, or characters for scripts without blanks; auto looks at the texts"
    )
    max_features: int = option(20_000, doc="terms that are kept, the most frequent ones", low=1, high=200_000)
    min_df: int = option(2, doc="texts that a term must stand in", low=1)
    c: float = option(0.0, doc="inverse strength of the regularisation; 0 takes the best of 1, 4 and 16", low=0.0)
    language: str = option("", doc="BCP 47 tag to publish, such as en or zh; none when not given")


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit to the training part, choose by the validation part, and judge by the test part. Raises TrainingError."""
    options = ctx.options(Options)
    _check_language(options)
    if ctx.epochs is not None:
        ctx.report.say(f"--epochs changes nothing: {MODEL} is fitted until it converges")
    table = data.table(SCHEMA)
    parts = data.parts(table, by=TEXT)
    regression = _best(parts, options, ctx)
    _save(regression, options, ctx)
    ctx.save_baseline(majority := majority_of(parts.train, LABEL))
    texts = chosen(parts.test[TEXT].tolist(), regression.fits)
    ctx.record({"text": texts}, regression.answers(texts))
    return _judged(table, parts.test, regression.predicted(parts.test[TEXT].tolist()), majority)


def evaluate(data: Data, predict: Predict, ctx: EvaluateContext) -> Evaluation:
    """The served model on the rows that no training on this data has seen."""
    table = data.table(SCHEMA)
    test = data.held_out(table, by=TEXT)
    tell_unknown_labels(test[LABEL], read_lexicon(ctx.files / FILE).labels, ctx.report)
    return _judged(table, test, predict({"text": test[TEXT]})["label"], ctx.baseline or "")


def _check_language(options: Options) -> None:
    if options.language and not is_language(options.language):
        raise TrainingError(f"--set language: got {options.language!r}, expected a BCP 47 tag, such as en or zh-Hans")


def _best(parts: Parts, options: Options, ctx: TrainContext) -> Regression:
    """The regression with the smallest log loss on the validation part, of those with the strengths to try."""
    strengths = (options.c,) if options.c else STRENGTHS
    tried = [_fitted(parts.train, options, c) for c in ctx.each("fit", strengths, len(strengths))]
    losses = [_loss(regression, parts.validation) for regression in tried]
    best = int(np.argmin(losses))
    regression = tried[best]
    ctx.note(analyzer=regression.vectorizer.analyzer, terms=len(regression.vectorizer.vocabulary_), c=strengths[best])
    return regression


def _fitted(rows: Table, options: Options, c: float) -> Regression:
    if len(labels_of(rows, LABEL)) < 2:
        raise TrainingError(f"{MODEL}: all {rows.rows} rows to fit have one label; bring more of the others")
    texts = rows[TEXT].tolist()
    analyzer = fitting(texts) if options.analyzer == "auto" else options.analyzer
    labels = rows[LABEL].tolist()
    return fitted(texts, labels, analyzer=analyzer, max_features=options.max_features, min_df=options.min_df, c=c)


def _loss(regression: Regression, rows: Table) -> float:
    """Mean log loss over the rows whose label was fitted; 0 where there is none."""
    known = np.isin(rows[LABEL].astype(str), regression.labels)
    if not known.any():
        return 0.0
    probabilities = regression.probabilities(rows[TEXT][known].tolist())
    return float(log_loss(rows[LABEL][known].astype(str), probabilities, labels=list(regression.labels)))


def _save(regression: Regression, options: Options, ctx: TrainContext) -> None:
    languages = (options.language,) if options.language else ()
    ctx.save_json(FILE, regression.lexicon(languages).plain())
    ctx.save_tensors(WEIGHTS, regression.tensors())


def _judged(table: Table, test: Table, predicted: Any, majority: str) -> Evaluation:
    return classification(labels_of(table, LABEL), test[LABEL], predicted, majority)
