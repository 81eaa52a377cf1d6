"""The network: names and shapes as published, checkpoints that fit and that do not, and what pruning leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mercato_vision.augmentation import Augmentation
from mercato_vision.network import FEATURES, ResNet18, Trunk
from mercato_vision.pruning import cost_of, pruned
from mercato_vision.weights import BadWeights, load_pretrained, load_whole

Tensors = dict[str, torch.Tensor]


def network_of(classes: int) -> ResNet18:
    """Random weights, and batch norms that have seen something."""
    torch.manual_seed(classes)
    network = ResNet18(classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    with torch.no_grad():
        network(pixels_of(8))
    return network.eval()


def pixels_of(rows: int) -> torch.Tensor:
    return torch.randint(0, 256, (rows, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def published() -> ResNet18:
    return network_of(1000)


def test_names_and_sizes_are_those_of_torchvision(published: ResNet18) -> None:
    tensors = published.state_dict()
    assert len(tensors) == 122 and sum(parameter.numel() for parameter in published.parameters()) == 11_689_512
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.num_batches_tracked": (),
        "layer4.1.bn2.bias": (512,),
        "fc.weight": (1000, 512),
    }
    assert {name: tuple(tensors[name].shape) for name in shapes} == shapes


def test_the_trunk_is_all_before_the_last_layer(published: ResNet18) -> None:
    trunk = Trunk()
    trunk.load_state_dict({name: value for name, value in published.state_dict().items() if not name.startswith("fc.")})
    with torch.no_grad():
        features = trunk.eval()(pixels_of(3))
        assert features.shape == (3, FEATURES)
        assert torch.equal(published.fc(features), published(pixels_of(3)))


def test_a_checkpoint_is_loaded_without_a_head_of_other_classes(published: ResNet18, tmp_path: Path) -> None:
    half = {n: v.half() for n, v in published.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file(half, tmp_path / "half.safetensors")
    other = ResNet18(7)
    fresh = other.fc.weight.clone()
    assert not load_pretrained(other, tmp_path / "half.safetensors")
    assert torch.equal(other.fc.weight, fresh)
    assert torch.equal(other.layer4[0].conv2.weight, half["layer4.0.conv2.weight"].float())  # type: ignore[index,union-attr]
    assert load_pretrained(same := ResNet18(1000), tmp_path / "half.safetensors")
    assert torch.equal(same.fc.weight, half["fc.weight"].float())


def _without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def _with(name: str, tensor: torch.Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without("bn1.running_mean"),
            "'bn1.running_mean' is missing; expected the names that torchvision",
        ),
        (_without("layer3.0.conv1.weight"), "'layer3.0.conv1.weight' is missing"),
        (_with("layer1.0.conv1.weight", torch.zeros(64, 64, 1, 1)), "shape 64 x 64 x 1 x 1, expected 64 x 64 x 3 x 3"),
        (_with("layer1.2.conv1.weight", torch.zeros(1)), "'layer1.2.conv1.weight' is not of a ResNet-18"),
        (_with("bn1.bias", torch.full((64,), torch.nan)), "'bn1.bias' holds what is no finite floating-point number"),
        (_with("bn1.bias", torch.zeros(64, dtype=torch.int64)), "'bn1.bias' holds what is no finite"),
    ],
)
def test_tensors_of_another_network_are_named(
    change: Callable[[Tensors], object], message: str, published: ResNet18, tmp_path: Path
) -> None:
    tensors = dict(published.state_dict())
    change(tensors)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(BadWeights, match=f"other.safetensors: tensor .*{message}"):
        load_pretrained(ResNet18(7), tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(BadWeights, match="weights.pt is no whole safetensors file"):
        load_whole(ResNet18(2), tmp_path / "weights.pt")
    with pytest.raises(BadWeights, match="absent.safetensors is no safetensors file of at most"):
        load_whole(ResNet18(2), tmp_path / "absent.safetensors")


def test_channels_that_add_nothing_go_first() -> None:
    """A quarter of each block's channels is made to give 0; without them the network says the same."""
    network = network_of(5)
    for block in network.blocks:
        silent = torch.randperm(block.conv1.out_channels)[: block.conv1.out_channels // 4]
        with torch.no_grad():
            block.bn1.weight[silent] = block.bn1.bias[silent] = 0.0
    smaller = pruned(network, 0.25)
    assert [block.conv1.out_channels for block in smaller.blocks] == [48, 48, 96, 96, 192, 192, 384, 384]
    with torch.no_grad():
        torch.testing.assert_close(smaller(pixels_of(4)), network(pixels_of(4)), rtol=1e-4, atol=1e-4)
    before, after = (cost_of(found, pixels_of(1)) for found in (network, smaller))
    assert after.parameters < 0.8 * before.parameters and after.nbytes < 0.8 * before.nbytes
    assert [block.conv1.out_channels for block in pruned(network, 0.9).blocks][:2] == [16, 16]
    assert [block.conv1.out_channels for block in pruned(network, 0.0).blocks] == list(ResNet18(2).inner)


def test_augmentation_depends_on_seed_step_and_rows_alone() -> None:
    pixels, rows = pixels_of(6), torch.arange(6)
    drawn = Augmentation(7)(pixels, 3, rows)
    assert (drawn.shape, drawn.dtype) == (pixels.shape, torch.float32)
    assert drawn.min() >= 0 and drawn.max() <= 255
    assert torch.equal(drawn, Augmentation(7)(pixels, 3, rows))
    for other in (
        Augmentation(8)(pixels, 3, rows),
        Augmentation(7)(pixels, 4, rows),
        Augmentation(7)(pixels, 3, rows + 1),
    ):
        assert not torch.equal(drawn, other)


def test_about_half_of_the_pictures_are_mirrored() -> None:
    """Dark on the left and light on the right, which no cut changes."""
    pixels = torch.zeros(200, 32, 32, 3, dtype=torch.uint8)
    pixels[:, :, 16:] = 200
    drawn = Augmentation(1)(pixels, 0, torch.arange(200))
    mirrored = (drawn[:, :, :8].mean(dim=(1, 2, 3)) > drawn[:, :, -8:].mean(dim=(1, 2, 3))).sum()
    assert 70 < int(mirrored) < 130
