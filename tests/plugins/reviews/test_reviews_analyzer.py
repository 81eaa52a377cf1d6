"""The analyzers: equal to scikit-learn's on every text, and chosen by the script of the texts."""

import subprocess
import sys

import pytest
from hypothesis import given
from sklearn.feature_extraction.text import TfidfVectorizer
from tests.plugins.reviews.corpus import CHINESE, ENGLISH, STRANGE, TEXTS

from mercato_reviews.analyzer import ANALYZERS, CHAR, LONGEST, WORD, WORDS, fitting

THEIRS = {
    name: TfidfVectorizer(analyzer=name, ngram_range=(1, longest), token_pattern=WORDS).build_analyzer()
    for name, longest in LONGEST.items()
}


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("name", ANALYZERS)
def test_strange_texts_have_the_terms_of_scikit_learn(name: str, text: str) -> None:
    assert ANALYZERS[name](text) == THEIRS[name](text)


@pytest.mark.parametrize("name", ANALYZERS)
@given(text=TEXTS)
def test_any_text_has_the_terms_of_scikit_learn(name: str, text: str) -> None:
    assert ANALYZERS[name](text) == THEIRS[name](text)


def test_words_are_joined_in_pairs() -> None:
    assert ANALYZERS[WORD]("Not a GOOD café") == ["not", "good", "café", "not good", "good café"]


def test_characters_are_joined_up_to_three() -> None:
    assert ANALYZERS[CHAR]("很好  A") == ["很", "好", " ", "a", "很好", "好 ", " a", "很好 ", "好 a"]


def test_the_script_decides() -> None:
    assert fitting(text for text, _ in ENGLISH) == WORD
    assert fitting(text for text, _ in CHINESE) == CHAR
    assert fitting(["Nike 跑鞋质量很好，非常满意", "!!"]) == CHAR
    assert fitting(["the label says 好"]) == WORD
    assert fitting([]) == fitting(["", "12 34"]) == WORD


def test_import_brings_no_build_tool() -> None:
    code = "import sys, mercato_reviews; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"mercato_reviews", "tokenizers"} <= set(done.stdout.split())
    assert not {"torch", "safetensors", "sklearn", "scipy", "onnx", "transformers", "mercato_training"} & set(
        done.stdout.split()
    )
