"""What a model folder of reviews.intent says of its head: the labels, and the encoder that it was fitted on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mercato_plugin import FolderError
from mercato_reviews.reading import FORMAT, damaged, labels, read_facts, strings

MODEL = "reviews.intent"
FILE = "head.json"
WEIGHTS = "head.safetensors"


@dataclass(frozen=True)
class EncoderFacts:
    """What serving must know of the encoder: its hash, and what bounds the token ids of one text."""

    sha256: str
    vocab: int
    pad: int
    max_tokens: int


@dataclass(frozen=True)
class Head:
    """`languages` are BCP 47 tags."""

    labels: tuple[str, ...]
    encoder: EncoderFacts
    languages: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For the file."""
        return {"format": FORMAT, **asdict(self)}


def read_head(path: Path) -> Head:
    """The facts in a file. Raises FolderError."""
    found = read_facts(path, MODEL)
    return Head(labels(found, path, MODEL), _encoder(found, path), strings(found, "languages", path, MODEL))


def other_encoder(got: str, expected: str) -> FolderError:
    """The error for an encoder that the head was not fitted on."""
    return FolderError(
        f"{MODEL}: setting encoder has the encoder {got[:12]}, the model was trained on {expected[:12]}; "
        "set encoder to that one, or train the model again"
    )


def _encoder(found: dict[str, Any], path: Path) -> EncoderFacts:
    facts = found.get("encoder")
    sizes = {name: facts.get(name) if isinstance(facts, dict) else None for name in ("vocab", "pad", "max_tokens")}
    digest = facts.get("sha256") if isinstance(facts, dict) else None
    whole = {name: size for name, size in sizes.items() if type(size) is int and size >= (name != "pad")}
    if len(whole) < len(sizes) or not isinstance(digest, str) or whole["pad"] >= whole["vocab"]:
        raise damaged(MODEL, path.name, f"the encoder is {facts!r}, expected sha256, vocab, pad and max_tokens")
    return EncoderFacts(digest, **whole)
