"""Personal data are planted in the stated share, belong to nobody, and have right check digits."""

import re
from collections import Counter

import numpy as np
import pytest

from mercato_plugin import masked
from mercato_plugin.masking import CARD, EMAIL, IDENTITY, PHONE
from mercato_shop import messages, personal
from mercato_shop.catalogue import draw_catalogue
from mercato_shop.messages import draw_messages
from mercato_shop.plan import Plan
from mercato_shop.words import LANGUAGES
from mercato_shop.writing import Dice

FORMS = {
    "email": re.compile(r"[a-z]+[._]?[a-z]+\d{0,2}@example\.(com|org|net)"),
    "card": re.compile(r"(?<!\d)(\d{4} ?){3}\d{4}(?!\d)"),
    "identity": re.compile(r"(?<!\d)\d{17}[\dX]"),
    "phone": re.compile(r"555-01\d\d|7700 900\d{3}|(?<!\d)1[3-9]\d{9}(?!\d)"),
}
MARKS = {"email": EMAIL, "phone": PHONE, "identity": IDENTITY, "card": CARD}


def invented(kind: str, language: str) -> list[str]:
    dice = Dice(np.random.default_rng(3))
    return [personal.invent(kind, language, LANGUAGES[language].personal, dice) for _ in range(200)]


def test_check_digits_of_known_numbers() -> None:
    assert personal.luhn_digit("411111111111111") == "1"
    assert personal.luhn_digit("555555555555444") == "4"
    assert personal.identity_digit("11010519491231002") == "X"


@pytest.mark.parametrize("language", LANGUAGES)
def test_cards_pass_luhn(language: str) -> None:
    for card in invented("card", language):
        digits = card.replace(" ", "")
        assert len(digits) == 16 and personal.luhn_digit(digits[:-1]) == digits[-1]


def test_chinese_identities_and_mobiles() -> None:
    for identity in invented("identity", "zh"):
        assert len(identity) == 18 and personal.identity_digit(identity[:-1]) == identity[-1]
        assert identity[2:6] == "9900"
    assert all(re.fullmatch(r"1[3-9]\d{9}", mobile) for mobile in invented("phone", "zh"))


def test_english_numbers_are_kept_for_fiction() -> None:
    assert all(re.search(r"555-01\d\d$|7700 900\d{3}$", phone) for phone in invented("phone", "en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_addresses_are_reserved(language: str) -> None:
    assert all(FORMS["email"].fullmatch(address) for address in invented("email", language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_training_masks_all_that_is_planted(language: str) -> None:
    carriers = LANGUAGES[language].personal.carriers
    for kind in personal.KINDS[language]:
        for carrier in carriers[kind]:
            found = {masked(carrier.format(value=value)) for value in invented(kind, language)}
            assert found == {carrier.format(value=MARKS[kind])}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_masked_message_gives_nothing_away(language: str) -> None:
    plan = Plan(language, products=60, users=5_000)
    drawn = draw_messages(plan, draw_catalogue(plan))
    for text, kind in zip(drawn.table["text"].to_pylist(), drawn.planted, strict=True):
        assert not any(form.search(masked(text)) for form in FORMS.values())
        assert [mark for mark in MARKS.values() if mark in masked(text)] == ([MARKS[kind]] if kind else [])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_stated_share_of_messages_gives_something_away(language: str) -> None:
    plan = Plan(language, products=60, users=5_000)
    drawn = draw_messages(plan, draw_catalogue(plan))
    found = [
        {kind for kind in personal.KINDS[language] if FORMS[kind].search(text)}
        for text in drawn.table["text"].to_pylist()
    ]

    assert found == [{kind} if kind else set() for kind in drawn.planted]
    share = sum(map(bool, drawn.planted)) / len(drawn.planted)
    assert share == pytest.approx(messages.PERSONAL, abs=0.01)
    assert min(Counter(drawn.planted)[kind] for kind in personal.KINDS[language]) > 20
