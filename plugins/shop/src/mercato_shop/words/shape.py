"""The shape of a language's words: what the modules of one language must supply."""

from collections.abc import Mapping
from dataclasses import dataclass

Phrases = tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """A thing to sell: its name in a title, one of it in a sentence, and what else people call such things."""

    title: str
    noun: str
    alias: str


@dataclass(frozen=True)
class Kind:
    """A category: its name, how to point at one of its things, and what they are made of, can do and are good for."""

    name: str
    this: str
    items: tuple[Item, ...]
    materials: Phrases
    features: Phrases
    uses: Phrases


@dataclass(frozen=True)
class Goods:
    """Words of the catalogue and of the people. `kinds` and `colours` have the keys of `mercato_shop.kinds`."""

    kinds: Mapping[str, Kind]
    colours: Mapping[str, str]
    brands: Phrases
    series: Phrases
    cities: Phrases
    name: str
    descriptions: Phrases
    seasons: Mapping[str, str]


@dataclass(frozen=True)
class Marks:
    """Punctuation: what stands between two clauses, and at the end of a text."""

    between: Phrases
    end: Phrases
    space: str
    capitals: bool


@dataclass(frozen=True)
class Slips:
    """How people mistype: common replacements, and whether letters are swapped, dropped and left small."""

    replacements: tuple[tuple[str, str], ...]
    letters: bool


@dataclass(frozen=True)
class Verdicts:
    """Judgements of one sentiment: adjectives, denials made with words of another sentiment, and last words."""

    adjectives: Phrases
    denials: Phrases
    closers: Phrases


@dataclass(frozen=True)
class ReviewWords:
    """Words of reviews. `aspects`: aspect, then sentiment, then clauses; `contrasts` by the sentiment they end on."""

    aspects: Mapping[str, Mapping[str, Phrases]]
    verdicts: Mapping[str, Verdicts]
    patterns: Phrases
    strong: Phrases
    mild: Phrases
    contrasts: Mapping[str, Phrases]
    facts: Phrases
    people: Phrases
    marks: Marks


@dataclass(frozen=True)
class MessageWords:
    """Words of messages: per intent what is asked; what two intents, or any, could ask; and what says nothing of it."""

    asks: Mapping[str, Phrases]
    ambiguous: tuple[tuple[tuple[str, str], Phrases], ...]
    vague: Phrases
    greetings: Phrases
    contexts: Phrases
    thanks: Phrases
    date: str
    months: Phrases
    order: str
    amount: str
    codes: Phrases
    marks: Marks


@dataclass(frozen=True)
class PersonalWords:
    """Sentences that give away personal data, by kind, and the parts of names in e-mail addresses."""

    carriers: Mapping[str, Phrases]
    first: Phrases
    last: Phrases


@dataclass(frozen=True)
class CardWords:
    """The data card's text with places for numbers and tables, the heads of the tables, and what each column holds."""

    page: str
    files_head: Phrases
    columns_head: Phrases
    intents_head: Phrases
    demand_head: Phrases
    columns: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Words:
    """Everything of one language."""

    goods: Goods
    reviews: ReviewWords
    messages: MessageWords
    personal: PersonalWords
    slips: Slips
    card: CardWords
