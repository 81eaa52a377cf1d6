"""Build time: networks with what training wrote, held against the catalogue of their model folder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mercato_plugin import BuildContext
from mercato_recommender import histories
from mercato_recommender.catalogue import FILE, Catalogue, damaged, read_catalogue
from mercato_recommender.items_network import ItemsNetwork
from mercato_recommender.recommender import HISTORY, MOST, ItemsModel, TwoTowerModel
from mercato_recommender.tower_network import TwoTowerNetwork, UserTower

ITEMS = "items.safetensors"
TOWERS = "towers.safetensors"

Tensors = Mapping[str, torch.Tensor]
Kinds = Mapping[str, tuple[torch.dtype, int]]
"""Type and rank of each tensor of a file."""

ITEM_KINDS: Kinds = {
    "neighbours": (torch.int32, 2),
    "similarities": (torch.float32, 2),
    "decay": (torch.float64, 0),
}
TOWER_KINDS: Kinds = {
    "vectors": (torch.float32, 2),
    "met": (torch.float32, 2),
    "up.weight": (torch.float32, 2),
    "up.bias": (torch.float32, 1),
    "down.weight": (torch.float32, 2),
    "down.bias": (torch.float32, 1),
    "fitted": (torch.bool, 1),
    "evident": (torch.bool, 1),
    "decay": (torch.float64, 0),
    "lift": (torch.float64, 0),
}


def build_items(ctx: BuildContext) -> ItemsNetwork:
    """The network of the model folder; catalogue and histories go to the worker. Raises FolderError."""
    catalogue = _carried(ctx, ItemsModel.name)
    found = _tensors(ctx, ITEMS, ItemsModel.name, ITEM_KINDS)
    near, similarities = found["neighbours"], found["similarities"]
    if near.shape != similarities.shape or len(near) != catalogue.absent or not _within(near, catalogue.absent):
        raise damaged(ItemsModel.name, ITEMS, f"does not hold the neighbours of {catalogue.absent} items")
    return ItemsNetwork(near, similarities, decay=float(found["decay"]), longest=HISTORY, best=best_of(catalogue))


def build_two_tower(ctx: BuildContext) -> TwoTowerNetwork:
    """As above. Raises FolderError."""
    catalogue = _carried(ctx, TwoTowerModel.name)
    found = _tensors(ctx, TOWERS, TwoTowerModel.name, TOWER_KINDS)
    if {len(found[name]) for name in ("vectors", "fitted", "evident")} != {catalogue.absent}:
        raise damaged(TwoTowerModel.name, TOWERS, f"does not hold the vectors of {catalogue.absent} items")
    try:
        return two_towers(found, catalogue)
    except (RuntimeError, IndexError):
        raise damaged(TwoTowerModel.name, TOWERS, "holds tensors whose sizes do not fit each other") from None


def two_towers(found: Tensors, catalogue: Catalogue) -> TwoTowerNetwork:
    """The network of tensors as training writes them. Raises RuntimeError for sizes that do not fit."""
    user = UserTower(found["fitted"], found["vectors"].shape[1], decay=float(found["decay"]), longest=HISTORY)
    learned = {name: found[name] for name in TOWER_KINDS if name.startswith(("up.", "down."))}
    state = {**user.state_dict(), **learned, "met.weight": found["met"]}
    user.load_state_dict(state)
    return TwoTowerNetwork(user, found["vectors"], found["evident"], lift=float(found["lift"]), best=best_of(catalogue))


def best_of(catalogue: Catalogue) -> int:
    """How many items the graph ranks."""
    return min(MOST, len(catalogue.items))


def _carried(ctx: BuildContext, model: str) -> Catalogue:
    """The catalogue, after the worker's files were saved."""
    assert ctx.files is not None
    catalogue = read_catalogue(ctx.files / FILE, model)
    histories.read_histories(ctx.files, model, catalogue)
    for name in (FILE, histories.USERS, histories.FILE):
        ctx.save(name, (ctx.files / name).read_bytes())
    return catalogue


def _tensors(ctx: BuildContext, name: str, model: str, kinds: Kinds) -> dict[str, torch.Tensor]:
    """The file's tensors, which are those of `kinds`, finite. Raises FolderError."""
    assert ctx.files is not None
    found = _loaded(ctx.files / name, model)
    got = {key: (tensor.dtype, tensor.ndim) for key, tensor in found.items()}
    if got != dict(kinds):
        raise damaged(model, name, f"holds {_told(got)}, expected {_told(kinds)}")
    if not all(bool(tensor.isfinite().all()) for tensor in found.values()):
        raise damaged(model, name, "holds numbers that are not finite")
    return found


def _loaded(path: Path, model: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise damaged(model, path.name, "is missing or no whole safetensors file") from None


def _within(numbers: torch.Tensor, high: int) -> bool:
    return not numbers.numel() or (int(numbers.min()) >= 0 and int(numbers.max()) <= high)


def _told(kinds: Kinds) -> str:
    return ", ".join(sorted(f"{name} {dtype} of rank {rank}" for name, (dtype, rank) in kinds.items())) or "nothing"
