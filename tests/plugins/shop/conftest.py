"""Small shops in both languages, written once for the whole run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mercato_shop import ShopCard, write_shop

PRODUCTS, USERS = 60, 80


@dataclass(frozen=True)
class Shop:
    """A written shop: its folder, its card, and its tables as dictionaries of columns."""

    folder: Path
    card: ShopCard

    def table(self, name: str) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = pq.read_table(self.folder / f"{name}.parquet").to_pydict()
        return columns


@pytest.fixture(scope="session", params=["en", "zh"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shops") / request.param
    return Shop(folder, write_shop(folder, language=request.param, products=PRODUCTS, users=USERS))
