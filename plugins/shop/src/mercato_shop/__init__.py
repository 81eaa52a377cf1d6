"""A synthetic shop with known signals, in English or Chinese, for demos and tests.

`write_shop` writes one into a folder; `mercato data shop` is the same as a command.
"""

from mercato_shop.card import FileFacts, ShopCard
from mercato_shop.shop import write_shop

__all__ = ["FileFacts", "ShopCard", "write_shop"]
