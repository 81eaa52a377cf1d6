"""Build time: networks with the weights that training wrote, held against what their model folder says of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mercato_plugin import BuildContext
from mercato_reviews import head, lexicon
from mercato_reviews.encoding import encoder_hash, encoder_of
from mercato_reviews.intent_network import IntentNetwork
from mercato_reviews.reading import damaged
from mercato_reviews.sentiment_network import SentimentNetwork
from mercato_semantic.building import TOKENIZER, load_encoder, serving_tokenizer

Shapes = Mapping[str, tuple[int, ...]]


def build_sentiment(ctx: BuildContext) -> SentimentNetwork:
    """The network of the model folder; the lexicon goes to the worker. Raises FolderError."""
    assert ctx.files is not None
    found = lexicon.read_lexicon(ctx.files / lexicon.FILE)
    terms, labels = len(found.terms), len(found.labels)
    shapes = {"idf": (terms,), "coefficients": (terms, labels), "intercepts": (labels,)}
    weights = _tensors(ctx.files / lexicon.WEIGHTS, lexicon.MODEL, shapes, torch.float64)
    ctx.save(lexicon.FILE, json.dumps(found.plain(), ensure_ascii=False).encode())
    return SentimentNetwork(**weights)


def build_intent(ctx: BuildContext) -> IntentNetwork:
    """The settings' encoder with the model folder's head. Raises FolderError where the head was fitted on another."""
    assert ctx.files is not None
    found = head.read_head(ctx.files / head.FILE)
    folder, config = encoder_of(ctx.settings)
    if (digest := encoder_hash(folder, config)) != found.encoder.sha256:
        raise head.other_encoder(digest, found.encoder.sha256)
    shapes = {"weight": (len(found.labels), config.hidden), "bias": (len(found.labels),)}
    weights = _tensors(ctx.files / head.WEIGHTS, head.MODEL, shapes, torch.float32)
    ctx.save(TOKENIZER, serving_tokenizer(folder, config))
    return IntentNetwork(load_encoder(folder, config), **weights)


def _tensors(path: Path, model: str, shapes: Shapes, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The file's tensors, which are those of `shapes`, finite, in `dtype`. Raises FolderError."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError):
        raise damaged(model, path.name, "is missing or no whole safetensors file") from None
    got = _told((name, tensor.shape, tensor.dtype) for name, tensor in found.items())
    expected = _told((name, shape, dtype) for name, shape in shapes.items())
    if got != expected:
        raise damaged(model, path.name, f"holds {got or 'nothing'}, expected {expected}")
    if not all(bool(tensor.isfinite().all()) for tensor in found.values()):
        raise damaged(model, path.name, "holds numbers that are not finite")
    return found


def _told(tensors: Iterable[tuple[str, Sequence[int], torch.dtype]]) -> str:
    """Names, types and shapes in a fixed order."""
    return ", ".join(sorted(f"{name} {dtype} {'x'.join(map(str, shape))}" for name, shape, dtype in tensors))
