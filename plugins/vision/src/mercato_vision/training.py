"""`mercato train` and `mercato evaluate` for vision.category."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mercato_training import (
    Data,
    EvaluateContext,
    Evaluation,
    Table,
    TrainContext,
    TrainingError,
    classification,
    labels_of,
    option,
)
from mercato_vision.baseline import logistic
from mercato_vision.collection import DIGEST, LABEL, decoded, grouped, read_collection, readable, some
from mercato_vision.facts import FEWEST_LABELS, FILE, MODEL, MOST_LABELS, SIZES, WEIGHTS, Facts
from mercato_vision.fitting import Both, Pace, Samples, fit_head, fit_whole, logits_of
from mercato_vision.network import ResNet18
from mercato_vision.pruning import Cost, cost_of, pruned
from mercato_vision.recording import record
from mercato_vision.weights import BadWeights, load_pretrained

EPOCHS = 5
JUDGED = 5000
"""Pictures that are held out and judged, at most."""

VALIDATION = 8
"""One in so many of the pictures to learn from tells when to stop."""

TUNED = 0.1
"""Of the learning rate, for weights that are fitted already."""

REQUEST_BYTES = 4 << 20
"""Pictures of one request while a served model is judged; a larger one goes alone."""

MEMORY = 8 << 30
"""Bytes of all pixels, at most."""

Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Options:
    """What `--set` may change."""

    size: int = option(64, doc="side of the square that the network sees, in pixels", low=SIZES[0], high=SIZES[1])
    images: int = option(1500, doc="pictures to learn from, at most", low=2 * VALIDATION, high=10_000_000)
    weights: Path | None = option(None, doc="safetensors file of a ResNet-18 as torchvision or timm name it")
    learning_rate: float = option(0.001, doc="of AdamW; a tenth of it for fitted weights", low=1e-6, high=1.0)
    batch_rows: int = option(16, doc="pictures of one step", low=2, high=4096)
    mirror: bool = option(True, doc="mirror every other picture that is fitted; not for letters and digits")
    prune: float = option(0.0, doc="share of the channels within each block to remove", low=0.0, high=0.9)

    def pace(self, learning_rate: float) -> Pace:
        """How all layers are fitted."""
        return Pace(EPOCHS, learning_rate, self.batch_rows, self.mirror)


@dataclass(frozen=True)
class Test:
    """Held-out pictures and their pixels; `labels` are those of all pictures."""

    labels: tuple[str, ...]
    rows: Table
    pixels: torch.Tensor


def train(data: Data, ctx: TrainContext) -> Evaluation:
    """Fit to the pictures, prune when asked to, and judge by the held-out ones. Raises TrainingError."""
    options = ctx.options(Options)
    table = read_collection(data)
    _check_memory(table, options)
    parts = data.parts(table, by=DIGEST)
    size = options.size
    known, fit = decoded("decode", some(parts.train, options.images - options.images // VALIDATION), size, ctx)
    stops, stop = decoded("decode validation", some(parts.validation, options.images // VALIDATION), size, ctx)
    test = Test(labels_of(table, LABEL), *decoded("decode test", some(parts.test, JUDGED), size, ctx))
    labels = _labels(known)
    both = Both(_samples(known, fit, labels, ctx), _samples(stops, stop, labels, ctx))
    network = _fitted(both, labels, options, ctx)
    network, costs = _pruned(network, both, labels, test, options, ctx)
    facts = Facts(labels, size, network.inner)
    ctx.save_json(FILE, facts.plain())
    ctx.save_tensors(WEIGHTS, network.state_dict())
    record(network, facts, test.rows, test.pixels, ctx)
    evaluation = _judged(network, labels, test, ctx)
    simple = classification(test.labels, test.rows[LABEL], logistic(fit, known[LABEL].tolist(), test.pixels)).metrics
    beside = {f"logistic_{name}": simple[name] for name in ("accuracy", "f1")}
    return Evaluation({**evaluation.metrics, **beside, **costs}, evaluation.rows, confusion=evaluation.confusion)


def evaluate(data: Data, predict: Predict, ctx: EvaluateContext) -> Evaluation:
    """The served model on the pictures that no training on this data has seen."""
    table = read_collection(data)
    test, files = readable(some(data.held_out(table, by=DIGEST), JUDGED))
    answers = [predict({"image": np.array(group, object)})["label"] for group in grouped(files, REQUEST_BYTES)]
    return classification(labels_of(table, LABEL), test[LABEL], np.concatenate(answers))


def _fitted(both: Both, labels: tuple[str, ...], options: Options, ctx: TrainContext) -> ResNet18:
    """From the weights that were given, the head first; or from scratch."""
    network = ResNet18(len(labels))
    rate = options.learning_rate
    if options.weights is not None:
        _load(network, options.weights, ctx)
        fit_head(network, both, ctx)
        rate *= TUNED
    fit_whole(network, both, ctx, options.pace(rate))
    return network


def _load(network: ResNet18, path: Path, ctx: TrainContext) -> None:
    try:
        keeps_head = load_pretrained(network, path)
    except BadWeights as error:
        raise TrainingError(f"--set weights: {error}") from None
    ctx.report.say(f"weights of {path.name}, {'with their' if keeps_head else 'with a fresh'} last layer")


def _pruned(
    network: ResNet18, both: Both, labels: tuple[str, ...], test: Test, options: Options, ctx: TrainContext
) -> tuple[ResNet18, dict[str, float]]:
    """The network without channels, fitted again, and what it cost before and after; as it is when nothing goes."""
    smaller = pruned(network, options.prune)
    if smaller.inner == network.inner:
        return network, {}
    before = _judged(network, labels, test, ctx)
    dropped = _judged(smaller.to(ctx.device), labels, test, ctx)
    fit_whole(smaller, both, ctx, options.pace(options.learning_rate * TUNED))
    one = test.pixels[:1].to(ctx.device)
    costs = {"before": cost_of(network, one), "after": cost_of(smaller, one)}
    accuracy = {"before": before, "unfitted": dropped}
    _tell(costs, accuracy, _judged(smaller, labels, test, ctx), ctx)
    return smaller, {
        **{f"accuracy_{when}": found.metrics["accuracy"] for when, found in accuracy.items()},
        **costs["before"].metrics("_before"),
        **costs["after"].metrics(""),
    }


def _tell(costs: Mapping[str, Cost], accuracy: Mapping[str, Evaluation], after: Evaluation, ctx: TrainContext) -> None:
    scores = " -> ".join(f"{found.metrics['accuracy']:.3f}" for found in (*accuracy.values(), after))
    ctx.report.say(f"pruned: accuracy {scores} when fitted again; {costs['before']} -> {costs['after']}")


def _judged(network: ResNet18, labels: tuple[str, ...], test: Test, ctx: TrainContext) -> Evaluation:
    numbers = logits_of(network, test.pixels, ctx.device).argmax(dim=1).tolist()
    return classification(test.labels, test.rows[LABEL], [labels[number] for number in numbers])


def _labels(rows: Table) -> tuple[str, ...]:
    names = labels_of(rows, LABEL)
    if not FEWEST_LABELS <= len(names) <= MOST_LABELS:
        text = (
            f"{MODEL}: {len(names)} different labels in the pictures to fit, expected {FEWEST_LABELS} to {MOST_LABELS}"
        )
        raise TrainingError(text)
    return names


def _samples(rows: Table, pixels: torch.Tensor, labels: tuple[str, ...], ctx: TrainContext) -> Samples:
    """The pictures whose label is among those that are fitted."""
    is_known = np.isin(rows[LABEL].astype(str), labels)
    if not is_known.any():
        raise TrainingError(f"{MODEL}: no picture of the validation part has a label that is fitted; bring more data")
    numbers = torch.tensor([labels.index(label) for label in rows[LABEL][is_known].tolist()])
    return Samples(pixels[torch.from_numpy(is_known)].to(ctx.device), numbers.to(ctx.device))


def _check_memory(table: Table, options: Options) -> None:
    most = MEMORY // (3 * options.size**2)
    if min(table.rows, options.images + JUDGED) > most:
        text = f"{MODEL}: --set images={options.images} of {options.size} pixels a side, expected at most {most}"
        raise TrainingError(text)
