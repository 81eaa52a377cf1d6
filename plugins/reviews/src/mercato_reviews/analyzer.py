"""Texts to terms in plain code, equal to what scikit-learn's TfidfVectorizer makes of them."""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

Analyzer = Callable[[str], list[str]]
"""A text to its terms, each as often as it stands there; the shorter terms come first."""

WORD, CHAR = "word", "char"
LONGEST = {WORD: 2, CHAR: 3}
"""Words or characters in one term, at most; at least one."""

WORDS = r"(?u)\b\w\w+\b"

_WORD = re.compile(WORDS)
_BLANKS = re.compile(r"\s\s+")
_HAN = re.compile("[㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")


def word_terms(text: str) -> list[str]:
    """Words of two or more letters or digits in lower case, then each pair of neighbours."""
    words = _WORD.findall(text.lower())
    return words + [f"{left} {right}" for left, right in pairwise(words)]


def char_terms(text: str) -> list[str]:
    """All runs of one, two and three characters in lower case; several blanks in a row count as one."""
    signs = _BLANKS.sub(" ", text.lower())
    return [signs[start : start + size] for size in (1, 2, 3) for start in range(len(signs) - size + 1)]


ANALYZERS: dict[str, Analyzer] = {WORD: word_terms, CHAR: char_terms}


def fitting(texts: Iterable[str]) -> str:
    """The analyzer for texts like these: `char` where more than half of the letters are Han, which no blanks part."""
    han = letters = 0
    for text in texts:
        han += len(_HAN.findall(text))
        letters += len(_LETTER.findall(text))
    return CHAR if 2 * han > letters else WORD


def has_han(text: str) -> bool:
    """Whether there is a Han character."""
    return _HAN.search(text) is not None
