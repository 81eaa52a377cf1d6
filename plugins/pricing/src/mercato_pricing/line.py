"""Build time of pricing.linear: the trained line, or the one through three points."""

import torch
from safetensors.torch import load_file

from mercato_plugin import BuildContext

WEIGHTS = "weights.safetensors"


def build(ctx: BuildContext) -> torch.nn.Linear:
    """The trained line, or without a model folder the one through (1, 2), (2, 4), (3, 6)."""
    if ctx.files is None:
        return through_points()
    line = torch.nn.Linear(1, 1)
    line.load_state_dict(load_file(ctx.files / WEIGHTS))
    return line


def through_points() -> torch.nn.Linear:
    """`torch.nn.Linear(1, 1)` after SGD on three points; RuntimeError when 10 000 steps do not converge."""
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
