"""Owns the servers that the documents' code is run against.

One serves pricing and the documents' own plugins, one pricing with the settings of the page on busy servers, one the
models that the pages on notebooks and on training train.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.docs.pages import blocks, read
from tests.server.running import Running, environment

from mercato_training import Group, Job, Quiet, Trained, train

TUTORIAL = "docs/tutorial/first-plugin.md"
SERVING = "docs/how-to/serve-your-plugin.md"
SHARING = "docs/how-to/share-a-busy-server.md"
NOTEBOOK = "docs/how-to/from-a-notebook.md"
TEACHING = "docs/how-to/teach-a-plugin-to-train.md"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugins of four pages, their files taken from there, built and installed into a folder of its own."""
    pages = {"shipping": TUTORIAL, "ranking": SERVING, "parcels": NOTEBOOK, "delays": TEACHING}
    folders = {name: tmp_path_factory.mktemp(f"mercato-{name}") for name in pages}
    for name, page in pages.items():
        for block in blocks(read(page)):
            if block.title == "pyproject.toml" or block.title.startswith(f"mercato_{name}"):
                path = folders[name] / block.title
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
    project = (folders["shipping"] / "pyproject.toml").read_text(encoding="utf-8").replace("shipping", "ranking")
    (folders["ranking"] / "pyproject.toml").write_text(project, encoding="utf-8")
    site = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", site, *folders.values()], check=True)
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


@pytest.fixture(scope="session")
def notebook(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both cells of the page on notebooks have run, each printing what the page says."""
    folder = tmp_path_factory.mktemp("notebook")
    found = blocks(read(NOTEBOOK))
    for cell, printed in pairwise(found):
        if cell.title in ("days.py", "late.py"):
            run = subprocess.run(
                [sys.executable, "-c", cell.text],
                capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(site)},
            )  # fmt: skip
            assert (run.stdout, run.stderr) == (printed.text, ""), cell.title
    return folder


@pytest.fixture(scope="session")
def delays(site: Path, notebook: Path) -> Trained:
    """What the page on training trains, in the same folder; its table is the one that the page makes."""
    (program,) = [block.text for block in blocks(read(TEACHING)) if block.title == "parcels.py"]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=notebook)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        done = train(Job("shipping.delay", notebook / "parcels.csv", notebook / "models"), Group(), Quiet())
    assert done is not None
    return done


@pytest.fixture(scope="session")
def trained(site: Path, notebook: Path, delays: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of what the two pages have trained."""
    folder = tmp_path_factory.mktemp("trained")
    env = environment(folder / "home", ("mercato-parcels", "mercato-delays"), PYTHONPATH=str(site))
    running = Running(folder / "store", folder / "work", env, "--models-dir", str(notebook / "models"))
    try:
        running.ready()
        yield running
    finally:
        running.kill()
