"""A site of a test's own."""

from pathlib import Path

import pytest
from tests.server.folders.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
