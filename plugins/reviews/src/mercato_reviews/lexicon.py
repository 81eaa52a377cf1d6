"""The lexicon of reviews.sentiment: its labels, its analyzer and the terms it knows, as training wrote them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mercato_reviews.analyzer import ANALYZERS
from mercato_reviews.reading import FORMAT, damaged, labels, read_facts, strings

MODEL = "reviews.sentiment"
FILE = "lexicon.json"
WEIGHTS = "weights.safetensors"

MOST_TERMS = 4096
"""Different known terms of one text; what stands behind them is cut."""


@dataclass(frozen=True)
class Lexicon:
    """`terms` are in the order of their ids; `languages` are BCP 47 tags."""

    labels: tuple[str, ...]
    analyzer: str
    terms: tuple[str, ...]
    languages: tuple[str, ...] = ()

    @property
    def limit(self) -> int:
        """Different terms of one text, at most."""
        return min(MOST_TERMS, len(self.terms))

    def plain(self) -> dict[str, Any]:
        """For the file."""
        return {"format": FORMAT, **asdict(self)}


def read_lexicon(path: Path) -> Lexicon:
    """The lexicon in a file. Raises FolderError."""
    found = read_facts(path, MODEL)
    lexicon = Lexicon(
        labels=labels(found, path, MODEL),
        analyzer=str(found.get("analyzer")),
        terms=strings(found, "terms", path, MODEL),
        languages=strings(found, "languages", path, MODEL),
    )
    if lexicon.analyzer not in ANALYZERS:
        raise damaged(MODEL, path.name, f"analyzer is {lexicon.analyzer!r}, expected {' or '.join(ANALYZERS)}")
    if not lexicon.terms:
        raise damaged(MODEL, path.name, "there is no term")
    return lexicon


class TermCounter:
    """Counts the terms of texts that a lexicon knows."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._analyzer = ANALYZERS[lexicon.analyzer]
        self._ids = {term: number for number, term in enumerate(lexicon.terms)}
        self._limit = lexicon.limit

    def count(self, text: str) -> tuple[Mapping[int, int], bool]:
        """How often each known term stands in the text, by its id, in the order of their first places.

        The second value tells whether terms were left out because there are more than the limit.
        """
        counts = Counter(map(self._ids.get, self._analyzer(text)))
        counts.pop(None, None)
        known: Mapping[Any, int] = counts
        if len(known) <= self._limit:
            return known, False
        return dict(islice(known.items(), self._limit)), True
