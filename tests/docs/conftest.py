"""Owns the servers that the documents' code is run against.

One serves pricing and the documents' own plugins, the other pricing with the settings of the page on busy servers.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import blocks, read
from tests.server.running import Running, environment

TUTORIAL = "docs/tutorial/first-plugin.md"
SERVING = "docs/how-to/serve-your-plugin.md"
SHARING = "docs/how-to/share-a-busy-server.md"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugins of two pages, their files taken from there, built and installed into a folder of its own."""
    shipping, ranking, site = map(tmp_path_factory.mktemp, ("mercato-shipping", "mercato-ranking", "site"))
    for folder, page in ((shipping, TUTORIAL), (ranking, SERVING)):
        for block in blocks(read(page)):
            if block.title:
                (folder / block.title).write_text(block.text, encoding="utf-8")
    project = (shipping / "pyproject.toml").read_text(encoding="utf-8").replace("shipping", "ranking")
    (ranking / "pyproject.toml").write_text(project, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", site, shipping, ranking], check=True)
    return site


@pytest.fixture(scope="session")
def server(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server process that has exported the models itself."""
    folder = tmp_path_factory.mktemp("documents")
    plugins = ("mercato-pricing", "mercato-shipping", "mercato-ranking")
    running = Running(folder / "store", folder / "work", environment(folder / "home", plugins, PYTHONPATH=str(site)))
    try:
        running.ready()
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server process with the settings that the page on busy servers has."""
    folder = tmp_path_factory.mktemp("shared")
    (settings,) = [block.text for block in blocks(read(SHARING)) if block.title == "mercato.toml"]
    (folder / "mercato.toml").write_text(settings, encoding="utf-8")
    env = environment(folder / "home", ("mercato-pricing",), MERCATO_CONFIG=str(folder / "mercato.toml"))
    running = Running(folder / "store", folder / "work", env)
    try:
        running.ready()
        yield running
    finally:
        running.kill()
