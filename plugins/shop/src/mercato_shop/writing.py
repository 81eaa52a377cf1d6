"""Writing of texts: cheap random choices, joining of clauses, and the slips of people who type fast."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from mercato_shop.words.shape import Marks, Slips

T = TypeVar("T")

BLOCK = 8_192
SENTENCE_ENDS = (".", "!", "?", ")")
QUESTIONS = ("?", "？")


class Dice:
    """Choices for text. Numbers are drawn a block at a time: numpy needs microseconds for a single one."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._numbers: Iterator[float] = iter(())

    def roll(self) -> float:
        """A number in [0, 1)."""
        for number in self._numbers:
            return number
        self._numbers = iter(self._rng.random(BLOCK).tolist())
        return next(self._numbers)

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self.roll() * count)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """True in this share of calls."""
        return self.roll() < share

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, all equally likely."""
        return choices[int(self.roll() * len(choices))]

    def digits(self, count: int) -> str:
        """So many decimal digits."""
        return "".join(str(self.below(10)) for _ in range(count))


def join(clauses: Sequence[str], marks: Marks, dice: Dice) -> str:
    """One text of the clauses; a question keeps its mark, and where the language has capitals, a sentence has one."""
    text = ""
    for clause in clauses:
        if text:
            text += marks.space if text.endswith(QUESTIONS) else dice.pick(marks.between)
        opens = marks.capitals and (not text or text.rstrip().endswith(SENTENCE_ENDS))
        text += clause[:1].upper() + clause[1:] if opens else clause
    return text if text.endswith(QUESTIONS) else text + dice.pick(marks.end)


def append(text: str, clause: str, marks: Marks) -> str:
    """The text with one more clause, as it is."""
    text = text.rstrip()
    return f"{text}{marks.between[0] if text[-1:].isalnum() else marks.space}{clause}"


def mistype(text: str, slips: Slips, dice: Dice) -> str:
    """The text with one or two common replacements; in English also with letters swapped, and perhaps no capitals."""
    for _ in range(dice.between(1, 2)):
        fitting = [(old, new) for old, new in slips.replacements if old in text]
        text = text.replace(*dice.pick(fitting), 1) if fitting else text
    if not slips.letters:
        return text
    text = _swapped(text, dice)
    return text.lower() if dice.chance(0.4) else text


def _swapped(text: str, dice: Dice) -> str:
    """Two neighbouring letters change places, or the second is lost."""
    places = [at for at in range(1, len(text) - 1) if text[at : at + 2].isalpha()]
    if not places:
        return text
    at = dice.pick(places)
    return text[:at] + (text[at + 1] + text[at] if dice.chance(0.6) else text[at]) + text[at + 2 :]
