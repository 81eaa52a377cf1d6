"""Pictures of items to vectors, by the network of a trained vision.category without its last layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mercato_plugin import FolderError, read_folder
from mercato_recommender.interactions import Indices
from mercato_training import TrainContext, TrainingError
from mercato_vision.building import load_network
from mercato_vision.category import MAX_BYTES
from mercato_vision.collection import inside
from mercato_vision.facts import FILE, MODEL, read_facts
from mercato_vision.network import FEATURES, Trunk
from mercato_vision.pictures import BadPicture, Decoder


@dataclass(frozen=True)
class Seer:
    """The network, which sees squares of `size` pixels a side; `digest` is that of its model folder."""

    network: Trunk
    size: int
    digest: str


def opened(path: Path) -> Seer:
    """The network of a model folder, held against its manifest. Raises TrainingError."""
    place = path.resolve()
    if place.parent.name != MODEL or not place.name.isdecimal():
        where = f"<models-dir>/{MODEL}/<version>"
        raise TrainingError(f"--set vision: got {place.parent.name}/{place.name}, expected a model folder {where}")
    try:
        folder = read_folder(place.parent.parent, MODEL, int(place.name))
        folder.verify()
        return Seer(load_network(folder.files), read_facts(folder.files / FILE).size, folder.digest)
    except FolderError as error:
        raise TrainingError(f"--set vision: {error}") from None


def picture_vectors(names: Sequence[str | None], folder: Path, seer: Seer, ctx: TrainContext) -> torch.Tensor:
    """Features of the pictures at paths below a folder, float32 (names, 512), on the CPU; zeros for no readable one.

    Raises DataError for a path that leaves the folder, TrainingError where no picture can be read.
    """
    paths = [inside(folder, name) if name else None for name in names]
    network, decoder = seer.network.to(ctx.device), Decoder(seer.size)

    def see(places: Indices) -> torch.Tensor:
        found = decoder.decode([_content(paths[place]) for place in places])
        seen = {row: picture for row, picture in enumerate(found) if not isinstance(picture, BadPicture)}
        vectors = torch.zeros(len(found), FEATURES)
        if seen:
            with torch.no_grad():
                pixels = torch.from_numpy(np.stack(list(seen.values()))).to(ctx.device)
                vectors[list(seen)] = network.features(pixels).cpu()
        return vectors

    vectors = ctx.computed("see pictures", len(paths), see)
    pictures = int(vectors.any(dim=1).sum())
    if not pictures:
        raise TrainingError(f"products: none of {len(paths)} pictures can be read; the column 'image' holds paths")
    ctx.note(pictures=pictures, vision=seer.digest)
    return vectors


def _content(path: Path | None) -> bytes:
    """The file's content; nothing where it is absent or larger than a served picture may be."""
    try:
        is_served = path is not None and path.is_file() and path.stat().st_size <= MAX_BYTES
        return path.read_bytes() if path is not None and is_served else b""
    except OSError:
        return b""
