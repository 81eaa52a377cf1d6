"""The model reviews.intent: signature, settings, tokenisation and answers; imports no build tool."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mercato_plugin import (
    Axis,
    Batch,
    BatchPolicy,
    BuildContext,
    Example,
    GraphSpec,
    Label,
    LoadContext,
    Model,
    ModelSpec,
    Ragged,
    SpecContext,
    Tensor,
    Text,
    setting,
)
from mercato_plugin.examples import read_examples
from mercato_plugin.masking import masked
from mercato_reviews.explanation import SHOWN, strongest
from mercato_reviews.head import FILE, MODEL, Head, read_head
from mercato_reviews.spans import Words, merged, words_of

DIGITS = 5
TOLERANCE = dict.fromkeys(("logit", "bias", "contributions", "weights", "rest"), 1e-4)
"""Relative error that these may reach: they are sums over the hidden axis, in which most of the terms cancel."""


@dataclass(frozen=True)
class IntentSettings:
    """What an operator may set for reviews.intent; training and serving must agree on it."""

    encoder: Path | None = setting(
        None, doc="folder of a BERT-family sentence encoder to build on in place of the English MiniLM-L6"
    )
    language: str = setting("", doc="BCP 47 tag of that encoder's language, such as zh; mul for several")


class IntentModel(Model):
    """What a customer wants, by a linear head on a sentence encoder, and which words made it so."""

    name = MODEL
    settings = IntentSettings
    build: Any = "mercato_reviews.building:build_intent"
    train: Any = "mercato_reviews.intent_training:train"
    evaluate: Any = "mercato_reviews.intent_training:evaluate"
    tokenizer: Tokenizer

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The specification, with the labels of the model folder and the limits of its encoder. Raises FolderError."""
        assert ctx.files is not None
        head = read_head(ctx.files / FILE)
        return ModelSpec(
            name=MODEL,
            inputs={
                "text": Text(
                    max_bytes=8192,
                    doc=f"cut at {head.encoder.max_tokens} tokens; personal data in it is masked before that",
                )
            },
            outputs=_outputs(head),
            graph=_graph(head),
            opset=24,
            tolerance=TOLERANCE,
            batch=BatchPolicy(max_rows=64, run_rows=16, max_padding=0.1),
            doc="Intent of a customer's message, and the exact weight of the words that decided.",
            languages=head.languages,
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """What training recorded."""
        assert ctx.files is not None
        return read_examples(ctx.files / "examples.json")

    def load(self, ctx: LoadContext) -> None:
        """Read the tokenizer that build saved."""
        # As in mercato-semantic: the tokenizer's pool would take every core, and a mark such as [SEP] in a text
        # is its letters.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.use(Tokenizer.from_file(str(ctx.files / "tokenizer.json")))

    def use(self, tokenizer: Tokenizer) -> None:
        """Read texts with this tokenizer."""
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer

    def preprocess(self, batch: Batch) -> Mapping[str, Ragged]:
        """Token ids of all texts at once; rows cut at the encoder's limit are noted."""
        texts = [masked(text) for text in batch.inputs["text"].tolist()]
        encodings = self.tokenizer.encode_batch(texts)
        for row, encoding in enumerate(encodings):
            if encoding.overflowing:
                batch.truncate(row, "text")
        batch.state = [words_of(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]
        return {"input_ids": Ragged.from_rows([encoding.ids for encoding in encodings], "int64")}

    def postprocess(self, outputs: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
        """The answer: labels with their probabilities, and the strongest words by name."""
        texts: list[Words] = batch.state
        weights, counts, others = merged(outputs["contributions"], texts)
        found = strongest(weights, counts, DIGITS)
        return {
            **{name: outputs[name] for name in ("label", "probabilities", "logit")},
            "probability": np.take_along_axis(outputs["probabilities"], outputs["label"][:, None], axis=1)[:, 0],
            "words": _named(texts, found.columns),
            "weights": found.weights.astype(np.float32),
            "rest": found.rest.astype(np.float32),
            "bias": (outputs["bias"] + others).astype(np.float32),
        }


def _named(texts: list[Words], columns: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.object_]]:
    named = np.full(columns.shape, "", object)
    for row, text in enumerate(texts):
        for place, column in enumerate(columns[row]):
            if column >= 0:
                named[row, place] = text.words[column]
    return named


def _outputs(head: Head) -> dict[str, Label | Tensor | Text]:
    count = len(head.labels)
    return {
        "label": Label(head.labels, doc="the most probable intent"),
        "probability": Tensor("float32", ("batch",), low=0.0, high=1.0, doc="of that intent"),
        "probabilities": Tensor("float32", ("batch", count), low=0.0, high=1.0, doc="of all intents, in their order"),
        "words": Text(axes=("batch", SHOWN), doc="the words that weighed most, strongest first; empty behind the last"),
        "weights": Tensor("float32", ("batch", SHOWN), doc="what each of them adds to the intent's logit"),
        "rest": Tensor("float32", ("batch",), doc="what all other words add"),
        "bias": Tensor("float32", ("batch",), doc="the intent's bias and what the marks around the text add"),
        "logit": Tensor("float32", ("batch",), doc="of the intent: the sum of weights, rest and bias"),
    }


def _graph(head: Head) -> GraphSpec:
    encoder = head.encoder
    length = Axis("length", max=encoder.max_tokens)
    number = Tensor("float32", ("batch",))
    return GraphSpec(
        inputs={
            "input_ids": Tensor(
                "int64", ("batch", length), low=0, high=encoder.vocab - 1, ragged=True, pad=encoder.pad
            ),
            "lengths": Tensor("int64", ("batch",), low=1, high=encoder.max_tokens),
        },
        outputs={
            "label": Tensor("int64", ("batch",)),
            "probabilities": Tensor("float32", ("batch", len(head.labels))),
            "logit": number,
            "bias": number,
            "contributions": Tensor("float32", ("batch", length)),
        },
        lengths="lengths",
    )
