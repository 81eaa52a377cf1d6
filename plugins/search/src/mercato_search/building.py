"""Build time: the graphs with the weights of the model folder, and the files of the index for the worker."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mercato_plugin import BuildContext
from mercato_reviews.encoding import encoder_hash, encoder_of
from mercato_reviews.reading import damaged
from mercato_search.facts import ENCODER, FILE, MODEL, PRODUCTS, Facts, other_encoder, read_search
from mercato_search.networks import ImageTower, TermsTower
from mercato_search.products import IMAGE, TEXT
from mercato_search.texts import TOKENIZER, VOCABULARY
from mercato_semantic.building import load_encoder, serving_tokenizer
from mercato_vision.building import load_network

TABLE = "terms.safetensors"
CENTRE = "centre.safetensors"


def build(ctx: BuildContext) -> dict[str, nn.Module]:
    """The networks by graph. Raises FolderError where the index was made with another encoder."""
    assert ctx.files is not None
    facts = read_search(ctx.files / FILE)
    ctx.save(FILE, json.dumps(facts.plain(), ensure_ascii=False).encode())
    kinds = (TEXT, IMAGE) if facts.image else (TEXT,)
    for name in (PRODUCTS, *(f"{kind}{suffix}" for kind in kinds for suffix in (".npy", ".index"))):
        ctx.save(name, _content(ctx.files / name))
    networks = {TEXT: _encoder(ctx, facts) if facts.text.tower == ENCODER else _terms(ctx, facts)}
    if facts.image is not None:
        centre = read_tensor(ctx.files / CENTRE, "centre", (facts.image.width,))
        networks[IMAGE] = ImageTower(load_network(ctx.files), centre).eval()
    return networks


def read_tensor(path: Path, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The file's one tensor, finite, in float32. Raises FolderError."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError):
        raise damaged(MODEL, path.name, "is missing or no whole safetensors file") from None
    tensor = found.get(name)
    if len(found) != 1 or tensor is None or tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        raise damaged(MODEL, path.name, f"expected one tensor, {name}, float32 of shape {shape}")
    if not bool(tensor.isfinite().all()):
        raise damaged(MODEL, path.name, "holds numbers that are not finite")
    return tensor


def _encoder(ctx: BuildContext, facts: Facts) -> nn.Module:
    folder, config = encoder_of(ctx.settings)
    digest = encoder_hash(folder, config)
    if (digest, config.pooling) != (facts.text.sha256, facts.text.pooling):
        raise other_encoder(f"{digest[:12]} ({config.pooling})", f"{facts.text.sha256[:12]} ({facts.text.pooling})")
    ctx.save(TOKENIZER, serving_tokenizer(folder, config))
    return load_encoder(folder, config)


def _terms(ctx: BuildContext, facts: Facts) -> nn.Module:
    assert ctx.files is not None
    ctx.save(VOCABULARY, _content(ctx.files / VOCABULARY))
    return TermsTower(read_tensor(ctx.files / TABLE, "table", (facts.text.vocab, facts.text.width))).eval()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise damaged(MODEL, path.name, "is missing or cannot be read") from None
