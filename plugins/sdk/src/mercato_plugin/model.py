"""The model interface: what a plugin's model declares, builds and computes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mercato_plugin.batch import Array, Batch, Graphs, Ragged
from mercato_plugin.context import BuildContext, LoadContext
from mercato_plugin.hooks import API_VERSION
from mercato_plugin.spec import ModelSpec

Built = Any
"""What `build` returns: a torch.nn.Module, a {name: module} of several graphs, a fitted scikit-learn
estimator, or the path of an ONNX file."""


@dataclass(frozen=True)
class Example:
    """A real request: `inputs` and `parameters` as a caller would write them.

    With `outputs`, recorded where the model was trained, the certificate compares the whole way,
    preprocess to postprocess, with them.
    """

    inputs: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] | None = None


class Model:
    """Base class of every model.

    A subclass sets `spec` (or defines `spec(self, ctx)`), defines `build`, and overrides what differs
    from the defaults. The constructor takes no arguments and does no work. Its module must not import
    torch, scikit-learn or onnx: those imports stand inside `build`, or `build` is an import string
    such as `"mercato_pricing.training:build"`.

    `preprocess` and `postprocess` are each called by one thread at a time, possibly different ones.
    Both see the whole batch; numpy in, numpy out. Each served version has a shallow copy of the object, so what
    `load` sets on `self` is its own, while what the constructor made is shared.

    A model that cannot be built without what training wrote sets `name`. It is then offered once for each of its
    model folders that is served, and not at all without one; `spec(ctx)` is called with the folder's files, and the
    specification it gives has that name. `train` and `evaluate` may be import strings, as `build` may.
    """

    spec: ModelSpec | Any
    name: str = ""
    settings: type | None = None
    api_version: tuple[int, int] = API_VERSION

    def build(self, ctx: BuildContext) -> Built:
        """Return the network to export. Runs in the export process, where torch is allowed."""
        raise NotImplementedError(f"{type(self).__name__} defines no build")

    def examples(self, ctx: BuildContext) -> Iterable[Example]:
        """Real requests for the certificate and for warm-up; at least one is expected."""
        return ()

    def load(self, ctx: LoadContext) -> None:
        """Read what serving needs, once, before warm-up."""

    def preprocess(self, batch: Batch) -> Mapping[str, Array | Ragged]:
        """The graph's inputs; by default the caller's own."""
        return batch.inputs

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> Mapping[str, Any]:
        """The signature's outputs, one row per row of the batch; by default the graph's own."""
        return outputs

    def predict(self, batch: Batch, graphs: Graphs) -> Mapping[str, Any]:
        """In place of the pair, for several graphs or an index. The default is the pair around `model`."""
        return self.postprocess(graphs.run(self.preprocess(batch)), batch)

    def stream(self, batch: Batch, graphs: Graphs) -> Iterator[Mapping[str, Any]]:
        """Partial answers of a generating model. Defining it is refused until generation is served."""
        raise NotImplementedError

    def train(self, data: Any, ctx: Any) -> Any:
        """Optional: fit the model to `data`, save its files through `ctx`, and return what it scores on held-out rows.

        `data` is a `mercato_training.Data`, `ctx` a `mercato_training.TrainContext`, the result a
        `mercato_training.Evaluation`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no train")

    def evaluate(self, data: Any, predict: Any, ctx: Any) -> Any:
        """Optional: what `predict` scores on held-out rows of `data`, as a `mercato_training.Evaluation`.

        `predict` takes the signature's inputs by name, any number of rows, and gives its outputs by name.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no evaluate")
