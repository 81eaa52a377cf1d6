"""What a folder with a BERT-family encoder says of itself: sizes, pooling and limits, read without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mercato_plugin import SpecError

MODEL = "semantic.encoder"
MAX_TOKENS = 256

_FAMILIES = ("bert", "roberta", "xlm-roberta")
_FIXED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLINGS = ("mean", "cls")
_OLD_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of one encoder.

    `first_position` is the row of the position table that the first token takes: 0 for BERT, `pad` + 1
    for the RoBERTa family. `max_tokens` is where texts are cut, special tokens included.
    """

    vocab: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    token_types: int
    epsilon: float
    pad: int
    first_position: int
    max_tokens: int
    pooling: str


MINILM = EncoderConfig(
    vocab=30522, hidden=384, layers=6, heads=12, intermediate=1536, positions=512, token_types=2,
    epsilon=1e-12, pad=0, first_position=0, max_tokens=MAX_TOKENS, pooling="mean",
)  # fmt: skip
"""The encoder of the weights package, known without it: a host that only serves does not install it."""


def read_config(folder: Path) -> EncoderConfig:
    """The configuration in `folder`; SpecError when it is not an encoder this plugin can build."""
    config = _read_json(folder, "config.json")
    _check_family(config)
    _check_modules(folder)
    pad = _whole(config, "pad_token_id", low=0)
    first = 0 if config["model_type"] == "bert" else pad + 1
    positions = _whole(config, "max_position_embeddings")
    return EncoderConfig(
        vocab=_whole(config, "vocab_size"),
        hidden=_whole(config, "hidden_size"),
        layers=_whole(config, "num_hidden_layers"),
        heads=_heads(config),
        intermediate=_whole(config, "intermediate_size"),
        positions=positions,
        token_types=_whole(config, "type_vocab_size"),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        pad=pad,
        first_position=first,
        max_tokens=min(MAX_TOKENS, positions - first, _max_seq_length(folder)),
        pooling=_pooling(folder),
    )


def _check_family(config: Mapping[str, Any]) -> None:
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise SpecError(f"{MODEL}: config.json: model_type is {family!r}, expected one of {', '.join(_FAMILIES)}")
    for key, expected in _FIXED.items():
        if config.get(key, expected) != expected:
            raise SpecError(f"{MODEL}: config.json: {key} is {config[key]!r}, only {expected!r} can be built")


def _check_modules(folder: Path) -> None:
    """Refuse an encoder with a further layer, such as Dense, after its pooling."""
    if not (folder / "modules.json").is_file():
        return
    for module in _read_json(folder, "modules.json"):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in _MODULES:
            raise SpecError(f"{MODEL}: modules.json: module {kind!r} cannot be built, only {', '.join(_MODULES)}")


def _heads(config: Mapping[str, Any]) -> int:
    heads, hidden = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    if hidden % heads:
        raise SpecError(f"{MODEL}: config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
    return heads


def _max_seq_length(folder: Path) -> int:
    if not (folder / "sentence_bert_config.json").is_file():
        return MAX_TOKENS
    limit = _read_json(folder, "sentence_bert_config.json").get("max_seq_length")
    return MAX_TOKENS if limit is None else int(limit)


def _pooling(folder: Path) -> str:
    """`mean` where nothing is said; both spellings of sentence-transformers are read."""
    if not (folder / "1_Pooling" / "config.json").is_file():
        return "mean"
    config = _read_json(folder, "1_Pooling/config.json")
    modes = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
    pooling = config.get("pooling_mode") or "+".join(_OLD_POOLINGS.get(mode, mode) for mode in modes)
    if pooling not in _POOLINGS:
        raise SpecError(f"{MODEL}: 1_Pooling/config.json: pooling is {pooling!r}, expected {' or '.join(_POOLINGS)}")
    return str(pooling)


def _whole(config: Mapping[str, Any], key: str, low: int = 1) -> int:
    value = config.get(key)
    if type(value) is not int or value < low:
        raise SpecError(f"{MODEL}: config.json: {key} is {value!r}, expected a whole number of at least {low}")
    return value


def _read_json(folder: Path, name: str) -> Any:
    try:
        if not (folder / name).is_file():  # a pipe would be waited for
            raise FileNotFoundError(name)
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{MODEL}: the folder of setting encoder has no readable {name}") from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{MODEL}: {name} in the folder of setting encoder is not JSON") from error
