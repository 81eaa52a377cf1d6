"""`mercato train` and `mercato evaluate` for reviews.intent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mercato_reviews.encoding import encoder_of, facts_of
from mercato_reviews.explanation import Array
from mercato_reviews.head import FILE, MODEL, WEIGHTS, Head, read_head
from mercato_reviews.intent_fit import Reader, some_per_label
from mercato_reviews.intent_network import IntentNetwork
from mercato_reviews.known_labels import tell_unknown_labels
from mercato_reviews.reading import MOST_LABELS, is_language
from mercato_reviews.recording import chosen
from mercato_training import (
    Column,
    Data,
    EvaluateContext,
    Evaluation,
    Table,
    TableSchema,
    TrainContext,
    TrainingError,
    classification,
    labels_of,
    majority_of,
    option,
)

TEXT, LABEL = "text", "intent"
SCHEMA = TableSchema(
    "messages",
    {
        "message_id": Column("id", optional=True),
        TEXT: Column("text"),
        LABEL: Column("label", max_labels=MOST_LABELS),
        "user_id": Column("user", optional=True),
    },
)

MANY = 0.1
"""Share of unknown tokens from which people are told."""

NAMING = ("words", "weights", "rest")
"""Outputs that change when two words change places."""

Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Options:
    """What `--set` may change."""

    per_class: int = option(0, doc="examples per intent that are fitted, and validated, at most; 0 for all", low=0)
    learning_rate: float = option(0.05, doc="of AdamW", low=1e-6, high=10.0)
    weight_decay: float = option(0.001, doc="of AdamW", low=0.0, high=10.0)
    batch_rows: int = option(256, doc="examples of one step", low=1)


@dataclass(frozen=True)
class Samples:
    """Unit vectors of shape (rows, hidden) with the numbers of their labels, both on the device."""

    vectors: torch.Tensor
    labels: torch.Tensor


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit a head on the vectors of the frozen encoder, and judge it by the test part. Raises TrainingError."""
    options = ctx.options(Options)
    table = data.table(SCHEMA)
    parts = data.parts(table, by=TEXT)
    folder, config = encoder_of(ctx.settings)
    reader = Reader.of(folder, config, ctx.device)
    fit, stop = (_few(part, options.per_class, ctx.seed) for part in (parts.train, parts.validation))
    _note_unknown(reader, fit, ctx)
    head = Head(_labels(fit), facts_of(folder, config), _languages(ctx.settings))
    ctx.note(encoder=head.encoder.sha256, examples=fit.rows)  # before the fit: its checkpoint is of this encoder alone
    layer = torch.nn.Linear(config.hidden, len(head.labels))
    _fit(
        layer,
        _samples("encode", fit, head, reader, ctx),
        _samples("encode validation", stop, head, reader, ctx),
        options,
        ctx,
    )
    network = IntentNetwork(reader.encoder, *_centred(layer))
    ctx.save_json(FILE, head.plain())
    ctx.save_baseline(majority := majority_of(fit, LABEL))
    ctx.save_tensors(WEIGHTS, {"weight": network.weight, "bias": network.bias})
    _record(reader, network, head, parts.test, ctx)
    test = _vectors("encode test", parts.test, reader, ctx)
    numbers = torch.nn.functional.linear(test, network.weight, network.bias).argmax(dim=1)
    return _judged(table, parts.test, [head.labels[number] for number in numbers.tolist()], majority)


def evaluate(data: Data, predict: Predict, ctx: EvaluateContext) -> Evaluation:
    """The served model on the rows that no training on this data has seen."""
    table = data.table(SCHEMA)
    test = data.held_out(table, by=TEXT)
    tell_unknown_labels(test[LABEL], read_head(ctx.files / FILE).labels, ctx.report)
    return _judged(table, test, predict({"text": test[TEXT]})["label"], ctx.baseline or "")


def _few(rows: Table, count: int, seed: int) -> Table:
    return rows.take(some_per_label(rows[LABEL], count, seed))


def _labels(rows: Table) -> tuple[str, ...]:
    names = labels_of(rows, LABEL)
    if len(names) < 2:
        raise TrainingError(f"{MODEL}: all {rows.rows} rows to fit have one intent; bring more of the others")
    return names


def _note_unknown(reader: Reader, rows: Table, ctx: TrainContext) -> None:
    unknown = reader.unknown(rows[TEXT].tolist())
    ctx.note(unknown_tokens=round(unknown, 4))
    if unknown > MANY:
        text = f"{unknown:.0%} of the tokens are unknown to the encoder: set encoder to one that knows the language"
        ctx.report.say(text)


def _languages(settings: Any) -> tuple[str, ...]:
    """The packaged encoder knows English; a folder's language is known only when it is stated."""
    if settings.language and not is_language(settings.language):
        got = f"setting language: got {settings.language!r}"
        raise TrainingError(f"{MODEL}: {got}, expected a BCP 47 tag, such as en or zh-Hans")
    stated = settings.language or ("en" if settings.encoder is None else "")
    return (stated,) if stated else ()


def _samples(title: str, rows: Table, head: Head, reader: Reader, ctx: TrainContext) -> Samples:
    """The rows whose label is among those that are fitted."""
    known = rows.take(np.isin(rows[LABEL].astype(str), head.labels))
    if not known.rows:
        raise TrainingError(f"{MODEL}: {title}: no row has an intent that is fitted; bring more data")
    numbers = [head.labels.index(label) for label in known[LABEL].tolist()]
    return Samples(_vectors(title, known, reader, ctx), torch.tensor(numbers, device=ctx.device))


def _vectors(title: str, rows: Table, reader: Reader, ctx: TrainContext) -> torch.Tensor:
    tokens = reader.tokens(rows[TEXT].tolist())

    def encode(places: Array) -> torch.Tensor:
        return reader.vectors([tokens[place] for place in places])

    return ctx.computed(title, len(tokens), encode, sizes=[len(row) for row in tokens])


def _fit(layer: torch.nn.Linear, fit: Samples, stop: Samples, options: Options, ctx: TrainContext) -> None:
    """Cross entropy on the rows to fit until that on the others no longer falls."""
    cross_entropy = torch.nn.functional.cross_entropy
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)

    def loss(module: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        return cross_entropy(module(fit.vectors[rows]), fit.labels[rows], reduction="none")

    def score(module: torch.nn.Module) -> float:
        return float(cross_entropy(module(stop.vectors), stop.labels))

    ctx.fit(
        layer,
        len(fit.labels),
        loss,
        score,
        epochs=200,
        learning_rate=options.learning_rate,
        batch_rows=options.batch_rows,
        patience=10,
        weight_decay=options.weight_decay,
    )


def _centred(layer: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """The head less its mean over the labels, which changes no probability.

    A word that speaks for every label alike weighs nothing then.
    """
    weight, bias = layer.weight.detach(), layer.bias.detach()
    return weight - weight.mean(dim=0), bias - bias.mean()


def _record(reader: Reader, network: IntentNetwork, head: Head, test: Table, ctx: TrainContext) -> None:
    """Two requests: texts whose words have a clear order, and others, of which the named words are left out."""
    texts = chosen(test[TEXT].tolist(), lambda text: True)
    answers = reader.answers(network, head, texts)
    for is_kept, left_out in ((answers.is_clear, ()), (~answers.is_clear, NAMING)):
        if is_kept.any():
            outputs = {name: value[is_kept] for name, value in answers.outputs.items() if name not in left_out}
            ctx.record({"text": [text for text, kept in zip(texts, is_kept, strict=True) if kept]}, outputs)


def _judged(table: Table, test: Table, predicted: Any, majority: str) -> Evaluation:
    return classification(labels_of(table, LABEL), test[LABEL], predicted, majority)
