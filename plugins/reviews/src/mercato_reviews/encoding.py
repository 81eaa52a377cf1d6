"""The sentence encoder below reviews.intent: which folder the settings mean, and the hash that names it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mercato_reviews.head import EncoderFacts
from mercato_semantic.building import TOKENIZER, WEIGHTS, packaged_folder
from mercato_semantic.folder import EncoderConfig, read_config


def encoder_of(settings: Any) -> tuple[Path, EncoderConfig]:
    """The folder in setting `encoder`, or that of the weights package, and what it says of itself."""
    folder = settings.encoder or packaged_folder()
    return folder, read_config(folder)


def encoder_hash(folder: Path, config: EncoderConfig) -> str:
    """SHA-256, hexadecimal, over all that decides the state of a token: sizes, weights and tokenizer."""
    # The head reads the states of all tokens, whichever of them the encoder itself would pool.
    sizes = {name: value for name, value in asdict(config).items() if name != "pooling"}
    parts = [sizes, *(_file_hash(folder / name) for name in (WEIGHTS, TOKENIZER))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def facts_of(folder: Path, config: EncoderConfig) -> EncoderFacts:
    """What the model folder notes of the encoder."""
    return EncoderFacts(encoder_hash(folder, config), config.vocab, config.pad, config.max_tokens)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
