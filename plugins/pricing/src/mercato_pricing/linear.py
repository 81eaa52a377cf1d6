"""The model pricing.linear: its signature and its examples."""

from collections.abc import Iterable
from typing import Any

from mercato_plugin import BuildContext, Example, Model, ModelSpec, Tensor
from mercato_plugin.examples import read_examples


class LinearPricing(Model):
    """y = weight * x + bias: fitted to (1, 2), (2, 4), (3, 6) in `build`, or by training to a table of x and y."""

    spec = ModelSpec(
        name="pricing.linear",
        inputs={"x": Tensor("float32", ("batch", 1), doc="quantity", unit="items", finite=True)},
        outputs={"y": Tensor("float32", ("batch", 1), doc="predicted price of x items")},
        doc="Price of a quantity, by linear regression with mean squared error.",
        license="Apache-2.0",
    )
    build: Any = "mercato_pricing.line:build"
    train: Any = "mercato_pricing.line_training:train"
    evaluate: Any = "mercato_pricing.line_training:evaluate"

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """One request of one row and one of three, or what training recorded."""
        if ctx.files is not None:
            return read_examples(ctx.files / "examples.json")
        return [Example({"x": [[4.0]]}), Example({"x": [[0.0], [2.5], [100.0]]})]
