"""Texts to the inputs of the graph `text`: token ids of an encoder, or known terms with their weights."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mercato_plugin import Axis, GraphSpec, Ragged, Tensor
from mercato_plugin.masking import masked
from mercato_reviews.analyzer import ANALYZERS, Analyzer
from mercato_reviews.reading import damaged, read_facts, strings
from mercato_search.facts import ENCODER, MODEL, TextFacts

TOKENIZER = "tokenizer.json"
VOCABULARY = "terms.json"
MOST_TERMS = 1024
"""Different terms of one text; the first ones are kept."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """The graph's inputs for those `rows` of some texts of which anything is known; the rows that were `cut`."""

    inputs: Mapping[str, Ragged]
    rows: Rows
    cut: Sequence[int]


class Reader(Protocol):
    """Reads texts for one tower. Personal data is masked before anything is looked at."""

    def read(self, texts: Sequence[str]) -> Read:
        """All texts at once."""


class EncoderReader:
    """Token ids, cut at the encoder's limit."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A mark such as [SEP] in a text is its letters.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer

    def read(self, texts: Sequence[str]) -> Read:
        """An encoder says something of every text."""
        found = self.tokenizer.encode_batch_fast([masked(text) for text in texts])
        ids = Ragged.from_rows([encoding.ids for encoding in found], "int64")
        cut = [row for row, encoding in enumerate(found) if encoding.overflowing]
        return Read({"input_ids": ids}, np.arange(len(texts)), cut)


class TermReader:
    """Known terms, each with 1 + log of how often it stands in the text."""

    def __init__(self, terms: Sequence[str], analyzer: str) -> None:
        self._places = {term: place for place, term in enumerate(terms)}
        self._analyze: Analyzer = ANALYZERS[analyzer]

    def read(self, texts: Sequence[str]) -> Read:
        """Of a text without a known term there is no row."""
        counts = [self._counted(masked(text)) for text in texts]
        rows = np.array([row for row, counted in enumerate(counts) if counted], np.int64)
        if not len(rows):
            return Read({}, rows, ())
        kept = [dict(list(counts[row].items())[:MOST_TERMS]) for row in rows]
        inputs = {
            "terms": Ragged.from_rows([list(each) for each in kept], "int64"),
            "weights": Ragged.from_rows([[1 + log(count) for count in each.values()] for each in kept], "float32"),
        }
        return Read(inputs, rows, [row for row in rows.tolist() if len(counts[row]) > MOST_TERMS])

    def _counted(self, text: str) -> Counter[int]:
        places = (self._places.get(term) for term in self._analyze(text))
        return Counter(place for place in places if place is not None)


def read_reader(files: Path, facts: TextFacts) -> Reader:
    """The reader of the files that build saved. Raises FolderError."""
    if facts.tower != ENCODER:
        return TermReader(read_terms(files / VOCABULARY, facts.vocab), facts.analyzer)
    # The tokenizer's pool would take every core beside the session's own threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return EncoderReader(Tokenizer.from_file(str(files / TOKENIZER)))


def read_terms(path: Path, count: int) -> tuple[str, ...]:
    """The terms in the order of their rows. Raises FolderError."""
    terms = strings(read_facts(path, MODEL), "terms", path, MODEL)
    if len(terms) != count:
        raise damaged(MODEL, path.name, f"holds {len(terms)} terms, expected {count}")
    return terms


def text_graph(facts: TextFacts) -> GraphSpec:
    """The inputs of the tower, and the unit vector that it gives."""
    high = facts.vocab - 1
    outputs = {"vector": Tensor("float32", ("batch", facts.width))}
    if facts.tower == ENCODER:
        length = Axis("length", max=facts.max_tokens)
        ids = Tensor("int64", ("batch", length), low=0, high=high, ragged=True, pad=facts.pad)
        lengths = Tensor("int64", ("batch",), low=1, high=facts.max_tokens)
        return GraphSpec(inputs={"input_ids": ids, "lengths": lengths}, outputs=outputs, lengths="lengths")
    length = Axis("length", max=MOST_TERMS)
    terms = Tensor("int64", ("batch", length), low=0, high=high, ragged=True)
    # A padded term weighs nothing, so that lengths need not be told.
    weights = Tensor("float32", ("batch", length), low=0.0, high=32.0, ragged=True)
    return GraphSpec(inputs={"terms": terms, "weights": weights}, outputs=outputs)
