"""A store that holds what the fault plugins export, and sites of a test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server.faults.site import NEIGHBOUR, VICTIM, Site, serving

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with both versions of the victim, and with the neighbour."""
    folder = tmp_path_factory.mktemp("filled")
    site = Site(folder / "site", folder / "store")
    for version in (1, 2):
        site.upgrade(VICTIM, version)
        with serving(site, folder / f"work{version}"):
            pass
    return site.store


@pytest.fixture(scope="session")
def make_site(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeSite:
    """A site of its own with the filled store."""

    def make(*modules: str) -> Site:
        return Site(tmp_path_factory.mktemp("site"), filled, modules or (VICTIM, NEIGHBOUR))

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()
