"""What a model folder of search.products says of itself: its products, the towers of vectors and their indexes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from mercato_plugin import FolderError
from mercato_reviews.analyzer import ANALYZERS
from mercato_reviews.reading import damaged, read_facts, strings

MODEL = "search.products"
FILE = "search.json"
PRODUCTS = "products.json"
ENCODER, TERMS = "encoder", "terms"
"""Towers of texts: a sentence encoder, or terms of the catalogue projected by a matrix."""

FLAT, INVERTED = "flat", "inverted"
"""Indexes: every vector is compared, or those of the nearest lists."""

T = TypeVar("T")


@dataclass(frozen=True)
class IndexFacts:
    """`probes` lists of `lists` are looked at; 0 of 0 where every vector is compared."""

    kind: str
    lists: int = 0
    probes: int = 0


@dataclass(frozen=True)
class TextFacts:
    """How texts become vectors of `width` numbers.

    Of an encoder the hash, pooling, size of the vocabulary, padding id and limit of tokens are noted; of terms their
    `analyzer` and, as `vocab`, how many there are.
    """

    tower: str
    width: int
    index: IndexFacts
    vocab: int
    sha256: str = ""
    pooling: str = ""
    pad: int = 0
    max_tokens: int = 0
    analyzer: str = ""


@dataclass(frozen=True)
class ImageFacts:
    """Pictures are squares of `size` pixels a side, and become vectors of `width` numbers."""

    size: int
    width: int
    index: IndexFacts


@dataclass(frozen=True)
class Facts:
    """`image` is None where the catalogue has no pictures; `languages` are BCP 47 tags."""

    products: int
    text: TextFacts
    image: ImageFacts | None
    languages: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For the file."""
        return {"format": 1, **asdict(self)}


def read_search(path: Path) -> Facts:
    """The facts in a file. Raises FolderError."""
    found = read_facts(path, MODEL)
    products = found.get("products")
    if type(products) is not int or products < 1:
        raise damaged(MODEL, path.name, f"products is {products!r}, expected a whole number of at least 1")
    image = found.get("image")
    return Facts(
        products,
        _part(TextFacts, found.get("text"), _is_text, path),
        None if image is None else _part(ImageFacts, image, lambda part: True, path),
        strings(found, "languages", path, MODEL),
    )


def read_products(path: Path, count: int) -> tuple[str, ...]:
    """The ids of all products, in the order of their vectors. Raises FolderError."""
    ids = strings(read_facts(path, MODEL), "products", path, MODEL)
    if len(ids) != count:
        raise damaged(MODEL, path.name, f"holds {len(ids)} products, expected {count}")
    return ids


def other_encoder(got: str, expected: str) -> FolderError:
    """The error for an encoder that the index was not made with."""
    return FolderError(
        f"{MODEL}: setting encoder has the encoder {got}, the index was made with {expected}; "
        "set encoder to that one, or train the model again"
    )


def _part(kind: Callable[..., T], found: Any, is_right: Callable[[T], bool], path: Path) -> T:
    try:
        if not isinstance(found, dict):
            raise TypeError
        part = kind(**{**found, "index": IndexFacts(**found["index"])})
        if _is_index(part.index) and _are_whole(asdict(part)) and is_right(part):  # type: ignore[attr-defined, call-overload]
            return part
    except (TypeError, KeyError):
        pass
    raise damaged(MODEL, path.name, f"holds {str(found)[:80]!r}, expected the facts of a tower with its index")


def _is_index(index: IndexFacts) -> bool:
    if index.kind == FLAT:
        return index.lists == index.probes == 0
    return index.kind == INVERTED and _are_whole(asdict(index)) and 1 <= index.probes <= index.lists


def _is_text(text: TextFacts) -> bool:
    if text.tower == TERMS:
        return text.analyzer in ANALYZERS and text.vocab >= 1
    return text.tower == ENCODER and text.pad < text.vocab and text.max_tokens >= 1


def _are_whole(part: dict[str, Any]) -> bool:
    """Whether all numbers are whole and not negative, and a width is at least 1."""
    numbers = [value for value in part.values() if not isinstance(value, str | dict)]
    return all(type(value) is int and value >= 0 for value in numbers) and part.get("width", 1) >= 1
