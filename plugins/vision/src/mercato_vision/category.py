"""The model vision.category: signature, decoding and answers; imports no build tool."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mercato_plugin import (
    Batch,
    BatchPolicy,
    BuildContext,
    Example,
    GraphSpec,
    Image,
    Label,
    LoadContext,
    Model,
    ModelSpec,
    SpecContext,
    Tensor,
)
from mercato_plugin.examples import read_examples
from mercato_vision.facts import FILE, MODEL, Facts, read_facts
from mercato_vision.pictures import MAX_PIXELS, BadPicture, Decoder

MAX_BYTES = 8 << 20
"""Bytes of one picture, at most."""

OPSET = 20
"""From 22 on MaxPool has no kernel on GPUs."""


class CategoryModel(Model):
    """Which of its labels a picture has, by a ResNet-18."""

    name = MODEL
    build: Any = "mercato_vision.building:build"
    train: Any = "mercato_vision.training:train"
    evaluate: Any = "mercato_vision.training:evaluate"
    _decoder: Decoder
    _shown: int

    def spec(self, ctx: SpecContext) -> ModelSpec:
        """The specification, with the labels and the served size of the model folder. Raises FolderError."""
        assert ctx.files is not None
        facts = read_facts(ctx.files / FILE)
        size, count = facts.size, len(facts.labels)
        return ModelSpec(
            name=MODEL,
            inputs={
                "image": Image(
                    max_pixels=MAX_PIXELS,
                    max_bytes=MAX_BYTES,
                    doc=f"its middle square is looked at, scaled to {size} by {size} pixels",
                )
            },
            outputs=_outputs(facts),
            graph=GraphSpec(
                inputs={"pixels": Tensor("uint8", ("batch", size, size, 3), low=0, high=255)},
                outputs={"shares": Tensor("float32", ("batch", count))},
            ),
            opset=OPSET,
            # Of costs, which are pixels, a batch may have two pictures of the largest size.
            batch=BatchPolicy(max_rows=32, max_cost=2 * MAX_PIXELS),
            doc="Category of a picture.",
        )

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """What training recorded."""
        assert ctx.files is not None
        return read_examples(ctx.files / "examples.json")

    def load(self, ctx: LoadContext) -> None:
        """Read the facts that build saved."""
        facts = read_facts(ctx.files / FILE)
        self.use(Decoder(facts.size), facts.shown)

    def use(self, decoder: Decoder, shown: int) -> None:
        """Read pictures with this decoder, and answer so many labels."""
        self._decoder = decoder
        self._shown = shown

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        """The pixels of all pictures; one that cannot be decoded is refused by itself."""
        size = self._decoder.size
        pixels = np.zeros((batch.rows, size, size, 3), np.uint8)
        for row, found in enumerate(self._decoder.decode(batch.inputs["image"].tolist())):
            if isinstance(found, BadPicture):
                batch.reject(row, "image", str(found))
            else:
                pixels[row] = found
        return {"pixels": pixels}

    def postprocess(self, outputs: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
        """The most probable label, and the first few of all with their probabilities."""
        return best(outputs["shares"], self._shown)


def best(shares: Any, shown: int) -> Mapping[str, Any]:
    """Probabilities of all labels, (rows, labels), as the answer; of equal ones the earlier label is better."""
    labels = np.argsort(-shares, axis=1, kind="stable")[:, :shown]
    probabilities = np.take_along_axis(shares, labels, axis=1)
    return {
        "label": labels[:, 0],
        "probability": probabilities[:, 0],
        "labels": labels,
        "probabilities": probabilities,
    }


def _outputs(facts: Facts) -> dict[str, Label | Tensor]:
    shown = facts.shown
    return {
        "label": Label(facts.labels, doc="the most probable label"),
        "probability": Tensor("float32", ("batch",), low=0.0, high=1.0, doc="of that label"),
        "labels": Label(facts.labels, ("batch", shown), doc="the most probable labels, best first"),
        "probabilities": Tensor("float32", ("batch", shown), low=0.0, high=1.0, doc="of these labels"),
    }
