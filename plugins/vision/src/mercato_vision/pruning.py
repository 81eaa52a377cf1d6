"""Channel pruning: a network without the inner channels that weigh least, and what it costs before and after."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mercato_vision.network import BasicBlock, ResNet18

STEP = 16
"""Channels come in multiples of this: the kernels of onnxruntime work on 16 at once, and pad what lies between."""

RUNS = 15


@dataclass(frozen=True)
class Cost:
    """What a network costs: numbers, bytes, and milliseconds of one run."""

    parameters: int
    nbytes: int
    milliseconds: float

    def metrics(self, suffix: str) -> dict[str, float]:
        """By name."""
        values = {"parameters": self.parameters, "bytes": self.nbytes, "ms": self.milliseconds}
        return {f"{name}{suffix}": float(value) for name, value in values.items()}

    def __str__(self) -> str:
        return f"{self.parameters / 1e6:.2f} M parameters, {self.nbytes / 1e6:.1f} MB, {self.milliseconds:.1f} ms"


def pruned(network: ResNet18, share: float) -> ResNet18:
    """A copy without about that share of the channels between the two convolutions of each block.

    What a channel weighs is the L1 norm of its filter with the batch norm behind it folded in.
    """
    kept = [_kept(block, share) for block in network.blocks]
    smaller = ResNet18(network.fc.out_features, [len(channels) for channels in kept])
    tensors = network.state_dict()
    names = {id(module): name for name, module in network.named_modules()}
    for block, channels in zip(network.blocks, kept, strict=True):
        tensors |= _without(block, channels, names[id(block)])
    smaller.load_state_dict(tensors)
    return smaller.eval()


def cost_of(network: ResNet18, pixels: torch.Tensor) -> Cost:
    """Measured in torch on these pixels, (rows, size, size, 3)."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    nbytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    return Cost(parameters, nbytes, _milliseconds(network, pixels))


def _milliseconds(network: ResNet18, pixels: torch.Tensor) -> float:
    """Median time of some runs."""
    times = []
    with torch.inference_mode():
        for _ in range(RUNS):
            start = time.perf_counter()
            network(pixels).cpu()
            times.append(time.perf_counter() - start)
    return sorted(times)[RUNS // 2] * 1e3


def _kept(block: BasicBlock, share: float) -> torch.Tensor:
    """Numbers of the channels that stay, in their order."""
    channels = block.conv1.out_channels
    count = max(STEP, round(channels * (1 - share) / STEP) * STEP)
    assert block.bn1.running_var is not None
    scale = block.bn1.weight.abs() / (block.bn1.running_var + block.bn1.eps).sqrt()
    weights = block.conv1.weight.abs().sum(dim=(1, 2, 3)) * scale
    return weights.argsort(descending=True, stable=True)[: min(count, channels)].sort().values


def _without(block: BasicBlock, channels: torch.Tensor, name: str) -> dict[str, torch.Tensor]:
    norm: Sequence[str] = ("weight", "bias", "running_mean", "running_var")
    tensors = block.state_dict()
    kept = {f"bn1.{part}": tensors[f"bn1.{part}"][channels] for part in norm}
    kept |= {"conv1.weight": tensors["conv1.weight"][channels], "conv2.weight": tensors["conv2.weight"][:, channels]}
    return {f"{name}.{key}": value for key, value in kept.items()}
