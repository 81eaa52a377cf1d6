"""Owns the one server that the documents' code is run against; it serves pricing and the tutorial's plugin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import blocks, read
from tests.server.running import Running, environment

TUTORIAL = "docs/tutorial/first-plugin.md"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's plugin, its files taken from the page, built and installed into a folder of its own."""
    folder, site = tmp_path_factory.mktemp("mercato-shipping"), tmp_path_factory.mktemp("site")
    for block in blocks(read(TUTORIAL)):
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", site, folder], check=True)
    return site


@pytest.fixture(scope="session")
def server(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server process that has exported both models itself."""
    folder = tmp_path_factory.mktemp("documents")
    plugins = ("mercato-pricing", "mercato-shipping")
    running = Running(folder / "store", folder / "work", environment(folder / "home", plugins, PYTHONPATH=str(site)))
    try:
        running.ready()
        yield running
    finally:
        running.kill()
