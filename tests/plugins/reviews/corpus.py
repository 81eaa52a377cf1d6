"""Small corpora in both languages, strange texts, and a strategy that mixes them."""

from hypothesis import strategies as st

ENGLISH = [
    ("Great shoes, great fit and very comfortable", "good"),
    ("Comfortable and light, would buy again", "good"),
    ("Fast delivery, lovely colour", "good"),
    ("Very happy with the café mug", "good"),
    ("Broke after two days, very disappointed", "bad"),
    ("Poor quality and late delivery", "bad"),
    ("Does not fit, bad stitching, not happy", "bad"),
    ("The size is wrong and the colour fades", "bad"),
    ("It is a kettle. It boils water", "neutral"),
    ("Average quality, average price", "neutral"),
    ("Nothing special, it does what it should", "neutral"),
    ("The kettle is grey and the shoes are blue", "neutral"),
]
CHINESE = [
    ("质量很好，穿着舒服，还会再买", "好评"),
    ("物流很快，颜色漂亮，很满意", "好评"),
    ("鞋子很轻，尺码合适，推荐", "好评"),
    ("味道不错，包装也好", "好评"),
    ("质量太差，穿两天就坏了", "差评"),
    ("尺码不对，客服也不理人", "差评"),
    ("物流太慢，包装破了，失望", "差评"),
    ("褪色严重，不会再买", "差评"),
    ("一般般，没什么特别的", "中评"),
    ("价格一般，质量一般", "中评"),
    ("还行吧，凑合能用", "中评"),
    ("收到了，还没有用", "中评"),
]
CORPORA = {"word": ENGLISH, "char": CHINESE}

STRANGE = [
    "", " ", "\n\t", "!!!", "。。。", "café Straße naïve", "İstanbul İİ ıI", "Σίσυφος ΣΑΣ", "ﬁne ﬀ",
    "e\u0301 cafe\u0301",
    "👟🔥", "👨\u200d👩\u200d👧 great 👟", "很好 very good 很好", "质量 quality  质量\n\n很\t\t好",
    "a b c d", "x" * 8192, "好" * 2730, "good " * 1638, "质量很好，" * 500, "not  good\r\nat\u3000all", "１２３ ＡＢＣ",
    "don't won't it's", "foo_bar __init__ 3.5 1,000", "call 13812345678 or a@b.com", "\u200bgood\u200b", "\ufeffgood",
    "ａ" * 50, "ß" * 20, "ǅ ǆ Ǆ", "ᾳ ᾼ", "good" + "\u0301" * 30,
]  # fmt: skip

PIECES = st.sampled_from(
    [
        *(" ".join(text for text, _ in ENGLISH).split()),
        *"".join(text for text, _ in CHINESE),
        " ",
        "  ",
        "\n",
        "İ",
        "ß",
        "👟",
        "é",
    ]
)
TEXTS = st.lists(PIECES, max_size=40).map(" ".join) | st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=80)
