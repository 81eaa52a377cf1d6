"""Masking: what becomes a mark, what stays, and that hostile texts take no longer than others."""

import time
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mercato_plugin.masking import CARD, EMAIL, IDENTITY, MARKS, PHONE, masked

HOSTILE = 100_000

PIECES = st.sampled_from(
    [
        *"0123456789", *" -.()+@xX<>，：０８＠．－＋（", *MARKS, "86", "+86", "0086", "138", "1234", "5678",
        "13812345678", "4111", "1111", "4111111111111111", "11010519491231002X", "a", "b.com", "a@b.com", "谢谢", "\n",
        "é", "2024", "\n", "\r\n", "·", " @ ", "qq.com", "07700", "900123", "212-555-0123", "1 3 8 1 2 3 4 5 6 7 8",
        "110105194912310029", ".1", "2.",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60)

ORDINARY = [
    "order 20391", "订单20391已发货", "¥1299.00", "1,299.50 USD", "from 12.99 to 1299", "42码", "36 37 38 39 40 41 42",
    "120x200x15 cm", "2024-01-15 2024-02-15", "15.01.2024", "2019 2020 2021 2022", "2024-01-15 13:45:22", "1998-2008",
    "20240115134522", "iPhone 15 Pro 256GB", "order 1029384756", "SKU-10293-84756", "192.168.100.200",
    "3.14159265358979", "100.13812345678", "@someone", "5 @ 3.50", "a @ b", "size@3.5", "555-1234", "400 000 000 000",
    "70%", "½", "x²+y²", "110105194912310021", "11010519491331002X", "4111 1111 1111 1112",
    "0000 0000 0000 0000", "12345678901", "6901234567892", "6 901234 567892", "4006381333931", "9780201379624",
    "299-399-4999", "199-299-3999", "200-300-4000", "911-555-2671", "415-511-2671", "250 300 1200", "199/1999/2999",
    "165 50 84 62 88", "5 5 4 1 3 5 5 4 5 5 5 5 5 5", "01234.567890", "2024-01-15\n2024-02-15", "+5\n20240115",
    "0.13812345678", "see you @ amazon.com", "2024·01·15",
]  # fmt: skip

PHONES = [
    "13812345678", "138 1234 5678", "138-1234-5678", "138 12345678", "1381234 5678", "+8613812345678",
    "+86 138 1234 5678", "+86-138-1234-5678", "(+86)13812345678", "0086 138 1234 5678", "008613812345678",
    "86 13812345678", "１３８１２３４５６７８", "138－1234－5678", "＋８６　１３８ １２３４ ５６７８", "138–1234–5678",
    "+44 20 7946 0958", "+33 6 12 34 56 78", "+49 (30) 901820", "+1 415 555 2671", "(415) 555-2671", "1-415-555-2671",
    "1.415.555.2671", "0044 20 7946 0958", "+852 9123 4567", "+86 10 6552 9988", "010-65529988", "(0755) 8654 3210",
    "07700 900123", "07700 900 123", "07700900123", "07700-900123", "(01632) 960123", "01632 960 123", "01632960123",
    "020 7946 0958", "0161 496 0123", "+44 (0)20 7946 0958", "138·1234·5678", "138・1234・5678", "138 1234\n5678",
    "138-1234-\r\n5678", "1 3 8 1 2 3 4 5 6 7 8", "1-3-8-1-2-3-4-5-6-7-8", "800-555-2671",
]  # fmt: skip


def luhn(digits: str) -> str:
    """The digits with the one behind them that makes the check pass."""
    total = sum(int("0246813579"[int(d)]) if place % 2 == 0 else int(d) for place, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def identity(digits: str) -> str:
    """The 17 digits with the sign behind them that makes the check pass."""
    factors = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * factor for digit, factor in zip(digits, factors, strict=True))
    return digits + "10X98765432"[total % 11]


CARDS = st.builds(
    lambda start, rest: luhn(start + rest),
    st.sampled_from(["3", "4", "5", "62", "81", "2221"]),
    st.text("0123456789", min_size=11, max_size=14),
).filter(lambda digits: len(digits) > 13 or digits[0] == "4")
IDENTITIES = st.builds(
    lambda region, born, order: identity(f"{region}{born:%Y%m%d}{order:03}"),
    st.integers(110000, 659999),
    st.dates(date(1900, 1, 1), date(2099, 12, 31)),
    st.integers(0, 999),
)


@pytest.mark.parametrize("number", PHONES)
def test_a_phone_number_is_one_mark(number: str) -> None:
    assert masked(number) == PHONE
    assert masked(f"电话：{number}，谢谢") == f"电话：{PHONE}，谢谢"
    assert masked(f"call {number} today") == f"call {PHONE} today"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_numbers_stay(text: str) -> None:
    assert masked(text) == text
    assert masked(f"买了{text}，不错") == f"买了{text}，不错"


@pytest.mark.parametrize(
    ("address", "left"),
    [
        ("jane.doe+shop@mail.example.co.uk", EMAIL),
        ("13812345678@qq.com", EMAIL),
        ("ｊａｎｅ＠ｑｑ．ｃｏｍ", EMAIL),
        ("邮箱jane@qq.com谢谢", f"邮箱{EMAIL}谢谢"),
        ("<jane@qq.com>.", f"<{EMAIL}>."),
        ("a@b@c.com", f"a@{EMAIL}"),
        ("jane@xn--fiqs8s.xn--p1ai", EMAIL),
        ("a@b.com;c@d.org", f"{EMAIL};{EMAIL}"),
        ("jane@localhost", "jane@localhost"),
        ("@b.com", "@b.com"),
        ("a.b@例え.jp", EMAIL),
        ("иван@почта.рф", EMAIL),
        ("姓名·a@b.com", f"姓名·{EMAIL}"),
        ("foo@bar.com.foo@baz.com", EMAIL),
        ("foo @ qq.com", EMAIL),
        ("foo@ gmail.com, please", f"{EMAIL}, please"),
        ("邮箱 foo @qq.com谢谢", f"邮箱 {EMAIL}谢谢"),
        ("the bag @ example.com", "the bag @ example.com"),
        ("邮箱 @ qq.com", "邮箱 @ qq.com"),
    ],
)
def test_addresses(address: str, left: str) -> None:
    assert masked(address) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("11010519491231002X", IDENTITY),
        ("身份证11010519491231002x号", f"身份证{IDENTITY}号"),
        ("110105 19491231 002X", IDENTITY),
        ("１１０１０５１９４９１２３１００２Ｘ", IDENTITY),
        ("4111 1111 1111 1111", CARD),
        ("4111-1111-1111-1111 2024", f"{CARD} 2024"),
        ("3782 822463 10005", CARD),
        ("6222 0212 3456 7890 128", CARD),
        ("卡号4111111111111111", f"卡号{CARD}"),
        ("138 1234 5678 2 items, order 20391", f"{PHONE} 2 items, order 20391"),
        ("+86 138 1234 5678 25元", f"{PHONE} 25元"),
        ("20391 13812345678", f"20391 {PHONE}"),
        ("a@b.com 13812345678 11010519491231002X", f"{EMAIL} {PHONE} {IDENTITY}"),
        ("电话13812345678.2号楼取货", f"电话{PHONE}.2号楼取货"),
        ("call 138-1234-5678.2 pieces", f"call {PHONE}.2 pieces"),
        ("卡4111 1111 1111 1111.5", f"卡{CARD}.5"),
        ("11010519491231002X.5", f"{IDENTITY}.5"),
        ("1.13812345678\n2.13912345678 3.11010519491231002X", f"1.{PHONE}\n2.{PHONE} 3.{IDENTITY}"),
        ("138 1234 5678.25", "138 1234 5678.25"),
        ("010-65529988.5", "010-65529988.5"),
        ("13812345678.4111111111111111", f"{PHONE}.{CARD}"),
        ("4000000000006", CARD),
    ],
)
def test_numbers_among_others(text: str, left: str) -> None:
    assert masked(text) == left


@given(CARDS, st.sampled_from(["", " ", "-"]))
def test_every_card_is_found_and_a_wrong_digit_is_not(digits: str, separator: str) -> None:
    grouped = separator.join(digits[place : place + 4] for place in range(0, len(digits), 4))
    assert masked(f"card {grouped}.") == f"card {CARD}."
    assert CARD not in masked(digits[:-1] + str((int(digits[-1]) + 1) % 10))


@given(IDENTITIES)
def test_every_id_number_is_found(number: str) -> None:
    assert masked(f"id {number}.") == f"id {IDENTITY}."


@given(
    st.text("0123456789", min_size=8, max_size=8),
    st.sampled_from(["", " ", "-"]),
    st.sampled_from(["", "+86", "0086 "]),
)
def test_every_mobile_is_found(rest: str, separator: str, before: str) -> None:
    number = separator.join(["138", rest[:4], rest[4:]])
    assert masked(f"tel {before}{number}!") == f"tel {PHONE}!"


@given(TEXTS)
@example("13812345678+442079460958")
@example("11010519491231002X13812345678")
@example("1.13812345678.2")
@example("11010519491231002X.4111111111111111")
@example("+86 138 1234 5678.5")
@example("+33 6 12 34 56 78.13812345678")
@example("010-65529988.13812345678")
@example("13812345678 1 3 8 1 2 3 4 5 6 7 8 1-415-555-2671")
@example("13812345678-2.13912345678")
@example("a@b.com@c.com")
@example("a @ qq.com13812345678")
def test_masking_twice_is_masking_once(text: str) -> None:
    once = masked(text)
    assert masked(once) == once


@given(st.text())
def test_a_text_without_digit_and_address_sign_is_the_same_object(text: str) -> None:
    if not any(sign in text for sign in "@＠0123456789０１２３４５６７８９"):
        assert masked(text) is text


@given(st.lists(st.integers(0, 99_999), max_size=6), st.sampled_from([", ", " / ", "x", "：", "元 "]))
def test_short_numbers_stay(numbers: list[int], between: str) -> None:
    text = between.join(map(str, numbers))
    assert masked(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "@",
        "a@",
        "@a.bb",
        "a.",
        "a-",
        "1",
        "1 ",
        "12 ",
        "123-",
        "+1(",
        "1.",
        "+",
        "4111 ",
        "１３ ",
        "00 1 ",
        "( ",
        "1a@",
        "1 3 8 ",
        "1  2",
        "138 1234\n",
        "a@b.com.",
        "a @ ",
        "a. @",
        "2.138",
        "6222 0212 ",
    ],
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    """Ten times the length may take 40 times as long on a busy machine, where quadratic work takes 100 times."""
    short, long = (piece * (size // len(piece)) for size in (HOSTILE // 10, HOSTILE))
    masked(short)
    assert _seconds(long) < max(40 * min(_seconds(short) for _ in range(3)), 0.5)


def _seconds(text: str) -> float:
    start = time.process_time()
    masked(text)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call 01065529988 today", "call <phone> today"),
        ("021-61234567 or 02161234567", "<phone> or <phone>"),
        ("座机05718765432", "座机<phone>"),
        ("UPC 036000291452", "UPC 036000291452"),
        ("138\u200b0013\u200b8000", "<phone>"),
        ("138\t0013\t8000", "<phone>"),
        ("müller@x.de", "<email>"),
        ("o'neil@x.com", "<email>"),
        ("张三@qq.com", "<email>"),
        ("我的邮箱是zhang@qq.com谢谢", "我的邮箱是<email>谢谢"),
        ("zhangsan@公司名.cn", "<email>"),
        ("иван@почта.com", "<email>"),
    ],
)
def test_forms_of_other_scripts_and_without_separators(text: str, expected: str) -> None:
    assert masked(text) == expected == masked(expected)
