"""The words of each language the shop speaks."""

from mercato_shop.words import card_en, card_zh, goods_en, goods_zh, messages_en, messages_zh, reviews_en, reviews_zh
from mercato_shop.words.shape import Words

ENGLISH = Words(
    goods_en.GOODS, reviews_en.REVIEWS, messages_en.MESSAGES, messages_en.PERSONAL, messages_en.SLIPS, card_en.CARD
)
CHINESE = Words(
    goods_zh.GOODS, reviews_zh.REVIEWS, messages_zh.MESSAGES, messages_zh.PERSONAL, messages_zh.SLIPS, card_zh.CARD
)
LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
