"""A control room whose hosts move only when told."""

from pathlib import Path

import pytest
from tests.server.control.stage import Stage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def stage(folder: Path) -> Stage:
    return Stage(folder)
