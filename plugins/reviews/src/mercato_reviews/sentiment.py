"""The model reviews.sentiment: signature, analysis and answers; imports no build tool."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

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
)
from mercato_plugin.examples import read_examples
from mercato_plugin.masking import masked
from mercato_reviews.explanation import SHOWN, strongest
from mercato_reviews.lexicon import FILE, MODEL, Lexicon, TermCounter, read_lexicon

RUN_CELLS = 16_384
DIGITS = 12


class SentimentModel(Model):
    """Which of its labels a review has, by logistic regression on TF-IDF, and which terms made it so."""

    name = MODEL
    build: Any = "mercato_reviews.building:build_sentiment"
    train: Any = "mercato_reviews.sentiment_training:train"
    evaluate: Any = "mercato_reviews.sentiment_training:evaluate"
    _counter: TermCounter
    _terms: npt.NDArray[Any]

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The specification, with the labels and terms of the model folder. Raises FolderError."""
        assert ctx.files is not None
        lexicon = read_lexicon(ctx.files / FILE)
        return ModelSpec(
            name=MODEL,
            inputs={"text": Text(max_bytes=8192, doc="personal data in it is masked before anything is computed")},
            outputs=_outputs(lexicon),
            graph=_graph(lexicon),
            batch=BatchPolicy(max_rows=64, run_cells=RUN_CELLS),
            doc="Sentiment of a review, and the exact weight of the terms that decided.",
            languages=lexicon.languages,
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """What training recorded."""
        assert ctx.files is not None
        return read_examples(ctx.files / "examples.json")

    def load(self, ctx: LoadContext) -> None:
        """Read the lexicon that build saved."""
        lexicon = read_lexicon(ctx.files / FILE)
        self._counter = TermCounter(lexicon)
        self._terms = np.array([*lexicon.terms, ""], object)

    def preprocess(self, batch: Batch) -> Mapping[str, Ragged]:
        """Ids and counts of the known terms; a text with more of them than the graph takes is noted."""
        rows = []
        for row, text in enumerate(batch.inputs["text"].tolist()):
            counts, is_cut = self._counter.count(masked(text))
            rows.append(counts)
            if is_cut:
                batch.truncate(row, "text")
        batch.state = terms = Ragged.from_rows([list(counts) for counts in rows], "int64")
        return {"terms": terms, "counts": Ragged.from_rows([list(counts.values()) for counts in rows], "float64")}

    def postprocess(self, outputs: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
        """The answer: labels with their probabilities, and the strongest terms by name."""
        terms: Ragged = batch.state
        found = strongest(outputs["contributions"], terms.lengths, DIGITS)
        starts = np.cumsum(terms.lengths) - terms.lengths
        places = np.where(found.columns < 0, len(terms.values), starts[:, None] + found.columns)
        return {
            **{name: outputs[name] for name in ("label", "probabilities", "logit", "bias")},
            "probability": np.take_along_axis(outputs["probabilities"], outputs["label"][:, None], axis=1)[:, 0],
            # The id behind the last one is that of no term.
            "words": self._terms[np.append(terms.values, -1)[places]],
            "weights": found.weights,
            "rest": found.rest,
        }


def _outputs(lexicon: Lexicon) -> dict[str, Label | Tensor | Text]:
    count = len(lexicon.labels)
    return {
        "label": Label(lexicon.labels, doc="the most probable label"),
        "probability": Tensor("float64", ("batch",), low=0.0, high=1.0, doc="of that label"),
        "probabilities": Tensor("float64", ("batch", count), low=0.0, high=1.0, doc="of all labels, in their order"),
        "words": Text(axes=("batch", SHOWN), doc="the terms that weighed most, strongest first; empty behind the last"),
        "weights": Tensor("float64", ("batch", SHOWN), doc="what each of them adds to the label's logit"),
        "rest": Tensor("float64", ("batch",), doc="what all other terms add"),
        "bias": Tensor("float64", ("batch",), doc="the label's logit for a text without a known term"),
        "logit": Tensor("float64", ("batch",), doc="of the label: the sum of weights, rest and bias"),
    }


def _graph(lexicon: Lexicon) -> GraphSpec:
    axis = Axis("terms", max=lexicon.limit)
    number = Tensor("float64", ("batch",))
    return GraphSpec(
        inputs={
            "terms": Tensor("int64", ("batch", axis), low=0, high=len(lexicon.terms) - 1, ragged=True),
            # A term that stands there 0 times adds nothing, so padding needs no mask.
            "counts": Tensor("float64", ("batch", axis), low=0, ragged=True),
        },
        outputs={
            "label": Tensor("int64", ("batch",)),
            "probabilities": Tensor("float64", ("batch", len(lexicon.labels))),
            "logit": number,
            "bias": number,
            "contributions": Tensor("float64", ("batch", axis)),
        },
    )
