"""Build time of pricing.demand: the network of a fitted line, or the file with the trees."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from mercato_plugin import BuildContext
from mercato_pricing import columns
from mercato_pricing.columns import Columns

WEIGHTS = "weights.safetensors"
TREES = "trees.onnx"


class Line(torch.nn.Module):
    """Standardised numbers and codes to one number; what is missing has a weight of its own. All in float64.

    It takes the kinds of columns that its table has: `numbers` (batch, columns), `codes` (batch, categories), or both
    in this order, and gives (batch, 1) in the target's own unit.
    """

    target: torch.Tensor

    def __init__(self, found: Columns) -> None:
        super().__init__()
        self.register_buffer("target", torch.tensor([found.mean, found.scale], dtype=torch.float64))
        parts = [Numbers(found)] if found.numeric else []
        self.parts = torch.nn.ModuleList([*parts, *([Words(found)] if found.categories else [])])
        self.bias = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The sum of what each kind of column adds."""
        scaled = self.bias
        for part, given in zip(self.parts, inputs, strict=True):
            scaled = scaled + part(given)
        return scaled * self.target[1] + self.target[0]


class Numbers(torch.nn.Module):
    """What the numbers of a row add, (batch, columns) to (batch, 1)."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, found: Columns) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([c.mean for c in found.numeric], dtype=torch.float64))
        self.register_buffer("scale", torch.tensor([c.scale for c in found.numeric], dtype=torch.float64))
        self.weight = torch.nn.Parameter(torch.zeros(len(found.numeric), 1, dtype=torch.float64))
        self.missing = torch.nn.Parameter(torch.zeros(len(found.numeric), 1, dtype=torch.float64))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Where a number is missing its mean stands for it."""
        absent = torch.isnan(numbers)
        standard = (torch.where(absent, self.mean, numbers) - self.mean) / self.scale
        return standard @ self.weight + absent.to(torch.float64) @ self.missing


class Words(torch.nn.Module):
    """What the words of a row add, (batch, categories) to (batch, 1)."""

    def __init__(self, found: Columns) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(found.codes, 1, dtype=torch.float64))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """The sum of the words' own weights."""
        return self.weight[codes].sum(dim=1)


def build(ctx: BuildContext) -> torch.nn.Module | Path:
    """The line with its weights, or the file with the trees."""
    assert ctx.files is not None, "spec has refused a model without a folder"
    found = columns.read(ctx.files)
    ctx.save(columns.FILE, (ctx.files / columns.FILE).read_bytes())
    if found.algorithm == "trees":
        return ctx.files / TREES
    line = Line(found)
    line.load_state_dict(load_file(ctx.files / WEIGHTS))
    return line.eval()
