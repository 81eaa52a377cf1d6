"""Tokens to words: which tokens of a text are one word for its reader, and where that word stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mercato_reviews.analyzer import has_han

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """The words of one text, and for each of its tokens the word it belongs to; -1 for those that stand for no text."""

    words: list[str]
    owners: Indices


def words_of(text: str, encoding: Any) -> Words:
    """The words of a text from its `tokenizers.Encoding`.

    Pieces of one word are joined. A piece with a Han character is a word of its own, since such words are not parted
    by blanks.
    """
    spans: list[tuple[int, int]] = []
    owners = np.full(len(encoding.word_ids), -1, np.int64)
    last: int | None = None
    for token, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
        surface = text[start:end]
        if word is None or not surface.strip():
            continue
        is_han = has_han(surface)
        if word == last and not is_han:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
        last = None if is_han else word
        owners[token] = len(spans) - 1
    return Words([text[start:end].strip() for start, end in spans], owners)


def merged(contributions: npt.NDArray[Any], texts: Sequence[Words]) -> tuple[npt.NDArray[np.float64], Indices, Any]:
    """Contributions of tokens, shape (rows, length), to those of words, shape (rows, most words).

    Also gives how many words each row has, and the sum over the tokens that stand for no text, both of shape (rows,).
    """
    counts = np.array([len(text.words) for text in texts], np.int64)
    weights = np.zeros((len(texts), max(1, int(counts.max(initial=0)))))
    others = np.zeros(len(texts))
    for row, text in enumerate(texts):
        own = contributions[row, : len(text.owners)].astype(np.float64)
        is_word = text.owners >= 0
        weights[row] = np.bincount(text.owners[is_word], own[is_word], weights.shape[1])
        others[row] = own[~is_word].sum()
    return weights, counts, others
