"""Texts that a caller may send to the sentence encoder: each is refused, or has a finite unit vector."""

from dataclasses import dataclass

MAX_BYTES = 8192


@dataclass(frozen=True)
class Row:
    """One text as bytes, and what the server says of it; without a `says` it is answered.

    `like` is a text that must have the same vector.
    """

    number: int
    name: str
    data: bytes
    says: str = ""
    like: str | None = None


def row(name: str, text: str, *, like: str | None = None) -> Row:
    return Row(86, name, text.encode(), like=like)


ROWS = [
    Row(86, "ten megabytes", b"shoe " * 2_000_000, f"has 10000000 bytes of UTF-8, expected at most {MAX_BYTES}"),
    Row(86, "10^5 spaces", b" " * 100_000, f"has 100000 bytes of UTF-8, expected at most {MAX_BYTES}"),
    Row(86, "lone high surrogate", b"\xed\xa0\x80", "is not valid UTF-8"),
    Row(86, "lone low surrogate", b"red \xed\xbf\xbf shoe", "is not valid UTF-8"),
    Row(86, "surrogates in pairs", b"\xed\xa0\xbd\xed\xb1\x9f", "is not valid UTF-8"),
    Row(86, "overlong slash", b"\xc0\xaf", "is not valid UTF-8"),
    Row(86, "beyond Unicode", b"\xf4\x90\x80\x80", "is not valid UTF-8"),
    Row(86, "UTF-16", "red shoe".encode("utf-16"), "is not valid UTF-8"),
    Row(86, "NUL", b"red\0shoe", "has a NUL character"),
    Row(86, "NUL alone", b"\0", "has a NUL character"),
    row("as many bytes as may be", "a" * MAX_BYTES),
    row("spaces up to the limit", " " * MAX_BYTES, like=""),
    row("every kind of white space", "\t\n\r\x0b\x0c\u00a0\u2003\u3000", like=""),
    row("control characters", "red\x01\x07\x1b[31m shoe"),
    row("invisible marks", "\u200b\u200e\u202e\ufeff\u2060"),
    row("combining marks alone", "\u0301\u0316\u0336" * 500),
    row("marks in heaps", "s" + "\u0301\u0316\u0336" * 200 + "hoe"),
    row("emoji joined", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308"),
    row("emoji up to the limit", "\U0001f45f" * 2048),
    row("composed and decomposed", "cafe\u0301 crème", like="café cre\u0300me"),
    row("full width", "ｒｅｄ ｓｈｏｅ"),
    row("right to left", "حذاء أحمر נעל"),
    row("characters of no language", "\ufffd\ufffe\uffff\U0010ffff\ue000"),
    row("one word of 8000 letters", "x" * 8000),
    row("8000 words", "a " * 4000),
    row("Chinese up to the limit", "鞋" * 2730),
    row("special token at the end", "red shoe [SEP]", like="red shoe [ sep ]"),
    row("special tokens", "[CLS] [SEP] [PAD] [MASK] [UNK]"),
    row("special tokens up to the limit", "[SEP]" * 1600),
    row("special tokens of another family", "</s><s><pad><|endoftext|>"),
    row("empty", "", like=" "),
]
