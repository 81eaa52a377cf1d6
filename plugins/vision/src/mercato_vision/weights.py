"""Reading weights: those of a model folder, and ResNet-18 checkpoints in safetensors with torchvision's names."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mercato_vision.network import ResNet18

MAX_BYTES = 256 << 20
"""Bytes of a checkpoint, at most; ResNet-18 in float32 has 47 million."""

COUNTER = "num_batches_tracked"
"""Of batch norms; some checkpoints leave it out."""

HEAD = ("fc.weight", "fc.bias")

Tensors = Mapping[str, torch.Tensor]


class BadWeights(ValueError):
    """The file's tensors are not those of the network; the text names the file and the first that differs."""


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises BadWeights."""
    try:
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            return load_file(path)
    except (SafetensorError, OSError):
        raise BadWeights(f"{path.name} is no whole safetensors file") from None
    raise BadWeights(f"{path.name} is no safetensors file of at most {MAX_BYTES} bytes")


def load_whole(network: torch.nn.Module, path: Path) -> None:
    """Give the network the file's tensors, which are exactly its own. Raises BadWeights."""
    _load(network, read_tensors(path), path.name)


def load_pretrained(network: ResNet18, path: Path) -> bool:
    """Give the network a checkpoint's tensors; whether the head is among them: one of other classes is left out.

    Raises BadWeights.
    """
    found = read_tensors(path)
    own = network.state_dict()
    keeps_head = all(name in found and found[name].shape == own[name].shape for name in HEAD)
    if not keeps_head:
        found = {name: value for name, value in found.items() if name not in HEAD} | {name: own[name] for name in HEAD}
    _load(network, found, path.name)
    return keeps_head


def _load(network: torch.nn.Module, found: Tensors, file: str) -> None:
    own = network.state_dict()
    for name, tensor in own.items():
        if not name.endswith(COUNTER):
            _check(name, tensor, found.get(name), file)
    if others := [name for name in found if name not in own]:
        raise BadWeights(f"{file}: tensor {others[0]!r} is not of a ResNet-18")
    network.load_state_dict({name: found.get(name, tensor).to(tensor.dtype) for name, tensor in own.items()})


def _check(name: str, expected: torch.Tensor, got: torch.Tensor | None, file: str) -> None:
    if got is None:
        raise BadWeights(f"{file}: tensor {name!r} is missing; expected the names that torchvision and timm use")
    if got.shape != expected.shape:
        raise BadWeights(f"{file}: tensor {name!r} has shape {_shape(got)}, expected {_shape(expected)}")
    if not (got.is_floating_point() and bool(got.isfinite().all())):
        raise BadWeights(f"{file}: tensor {name!r} holds what is no finite floating-point number")


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
