"""The model pricing.linear: its signature, its training and its examples; the plugin to copy."""

from collections.abc import Iterable

from mercato_plugin import BuildContext, Built, Example, Model, ModelSpec, Tensor, hookimpl


class LinearPricing(Model):
    """y = weight * x + bias, fitted in `build` to (1, 2), (2, 4), (3, 6)."""

    spec = ModelSpec(
        name="pricing.linear",
        inputs={"x": Tensor("float32", ("batch", 1), doc="quantity", unit="items", finite=True)},
        outputs={"y": Tensor("float32", ("batch", 1), doc="predicted price of x items")},
        doc="Price of a quantity, by linear regression with mean squared error.",
        license="Apache-2.0",
    )

    def build(self, ctx: BuildContext) -> Built:
        """Train a `torch.nn.Linear(1, 1)`; RuntimeError when 10 000 steps of SGD do not converge."""
        import torch

        x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[2.0], [4.0], [6.0]])
        torch.manual_seed(0)
        line = torch.nn.Linear(1, 1)
        sgd = torch.optim.SGD(line.parameters(), lr=0.1)
        error = torch.nn.MSELoss()
        loss = error(line(x), y)
        for _ in range(10_000):
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            loss = error(line(x), y)
            if loss < 1e-10:
                return line
        raise RuntimeError(f"pricing.linear: mean squared error {loss:.3g} after 10000 steps, expected below 1e-10")

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """One request of one row and one of three."""
        return [Example({"x": [[4.0]]}), Example({"x": [[0.0], [2.5], [100.0]]})]


@hookimpl
def mercato_models() -> Iterable[Model]:
    """The plugin's models."""
    return [LinearPricing()]
