"""What is asked of a shop: language, sizes and seed, checked, and the random streams and row counts that follow."""

from dataclasses import dataclass

import numpy as np

from mercato_client.errors import InvalidInput, Violation
from mercato_shop.words import LANGUAGES
from mercato_shop.words.shape import Words

PRODUCTS = (10, 100_000)
USERS = (10, 1_000_000)
SEEDS = (0, 2**63 - 1)

# The shop's year: interactions, messages and sales lie in it.
START = np.datetime64("2025-01-01T00:00:00", "s")
DAYS = 365


@dataclass(frozen=True)
class Plan:
    """A shop's arguments. Raises InvalidInput, which names each argument at fault, outside of the bounds."""

    language: str = "en"
    products: int = 2_000
    users: int = 5_000
    seed: int = 7

    def __post_init__(self) -> None:
        violations = [
            *_unknown_language(self.language),
            *_out_of_bounds("products", self.products, PRODUCTS),
            *_out_of_bounds("users", self.users, USERS),
            *_out_of_bounds("seed", self.seed, SEEDS),
        ]
        if violations:
            raise InvalidInput.of(*violations)

    @property
    def words(self) -> Words:
        """The words of the language."""
        return LANGUAGES[self.language]

    @property
    def reviews(self) -> int:
        """Rows of the reviews: five per product."""
        return 5 * self.products

    @property
    def messages(self) -> int:
        """Rows of the messages: six per five users, more in a small shop, at most 200 000."""
        return min(max(self.users * 6 // 5, min(600, 10 * self.users)), 200_000)

    @property
    def sold(self) -> int:
        """Products whose sales are recorded: every other one, and no fewer than 40 where there are so many."""
        return max(self.products // 2, min(self.products, 40))

    def stream(self, name: str) -> np.random.Generator:
        """The random numbers of one table. They depend on the seed and this name, not on any other table."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=tuple(name.encode())))


def _unknown_language(language: str) -> list[Violation]:
    known = " or ".join(LANGUAGES)
    return [] if language in LANGUAGES else [Violation("language", f"got {language!r}, expected {known}")]


def _out_of_bounds(name: str, value: int, bounds: tuple[int, int]) -> list[Violation]:
    low, high = bounds
    return [] if low <= value <= high else [Violation(name, f"got {value}, expected {low} to {high}")]
