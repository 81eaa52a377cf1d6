"""What is named: the strongest parts of a row, and tokens joined to words."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mercato_reviews.explanation import SHOWN, strongest
from mercato_reviews.spans import Words, merged, words_of

PARTS = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-8, 8).map(lambda n: n / 4)
)
WORDS = ["[UNK]", "[CLS]", "[SEP]", "red", "shoe", "##s", "cafe", "!", "<", ">", "phone", *"红色跑鞋"]


def tokenizer() -> Tokenizer:
    found = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(handle_chinese_chars=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    found.encode_special_tokens = True
    return found


def test_the_strongest_come_first_and_the_earlier_of_equal_ones() -> None:
    contributions = np.array([[0.5, -2.0, 0.5, 1.0, 0.25, -0.5, 9.0], [1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]])
    found = strongest(contributions, np.array([6, 1]), digits=12)
    assert found.columns.tolist() == [[1, 3, 0, 2, 5], [0, -1, -1, -1, -1]]
    assert found.weights.tolist() == [[-2.0, 1.0, 0.5, 0.5, -0.5], [1.0, 0.0, 0.0, 0.0, 0.0]]
    assert found.rest.tolist() == [0.25, 0.0]


def test_last_bits_do_not_change_the_order() -> None:
    found = strongest(np.array([[0.1, 0.1 + 1e-15, 0.3 - 1e-15, 0.3]]), np.array([4]), digits=12)
    assert found.columns[0, :4].tolist() == [2, 3, 0, 1]


@given(contributions=PARTS, data=st.data())
def test_nothing_is_lost_and_nothing_is_named_twice(contributions: np.ndarray, data: st.DataObject) -> None:
    rows, width = contributions.shape
    lengths = np.array(data.draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows)))
    found = strongest(contributions, lengths, digits=12)
    for row, length in enumerate(lengths):
        named = [column for column in found.columns[row] if column >= 0]
        assert len(set(named)) == len(named) == min(SHOWN, length)
        assert found.weights[row].sum() + found.rest[row] == contributions[row, :length].sum()
        others = np.delete(contributions[row, :length], named)
        assert np.abs(others).max(initial=0) <= np.abs(found.weights[row, : len(named)]).min(initial=9)


def test_pieces_are_joined_to_words_as_they_stand_in_the_text() -> None:
    text = " Red SHOES! 红色跑鞋Café<phone>"
    found = words_of(text, tokenizer().encode(text))
    assert found.words == ["Red", "SHOES", "!", *"红色跑鞋", "Café", "<", "phone", ">"]
    assert found.owners.tolist() == [-1, 0, 1, 1, *range(2, 11), -1]


def test_a_mark_in_a_text_is_words_of_it() -> None:
    text = "[SEP] red"
    found = words_of(text, tokenizer().encode(text))
    assert found.words == ["[", "SEP", "]", "red"]


def test_words_weigh_the_sum_of_their_tokens() -> None:
    texts = [Words(["red", "shoes"], np.array([-1, 0, 1, 1, -1])), Words([], np.array([-1, -1]))]
    contributions = np.array([[1, 2, 3, 4, 5, 99], [6, 7, 99, 99, 99, 99]], np.float32)
    weights, counts, others = merged(contributions, texts)
    assert weights.tolist() == [[2.0, 7.0], [0.0, 0.0]]
    assert counts.tolist() == [2, 0]
    assert others.tolist() == [6.0, 13.0]
