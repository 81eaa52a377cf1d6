"""Distributions as pip leaves them, in a folder of the test's own on the path."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.server.plugins.installed import install

from mercato_server.contract.plugin import Discovery
from mercato_server.plugins.host import Policy, SettingsSource, discover

Discover = Callable[..., Discovery]
Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def add(site: Path) -> Install:
    """Install one distribution into the folder: `add("mercato-good", code, requires=[...])`."""

    def run(name: str, *args: object, **kwargs: object) -> None:
        install(site, name, *args, **kwargs)  # type: ignore[arg-type]
        importlib.invalidate_caches()

    return run


@pytest.fixture
def found(site: Path) -> Discover:
    """What the host makes of the folder's plugins; the reference plugins stay out."""

    def run(settings: SettingsSource = lambda name: {}, policy: Policy = Policy()) -> Discovery:  # noqa: B008
        reference = ("mercato-pricing", "mercato-reviews", "mercato-semantic")
        return discover(Policy(policy.allow, (*policy.deny, *reference)), settings)

    return run
