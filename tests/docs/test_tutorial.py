"""Shows that the tutorial's plugin, taken from the page, is found, exported, certified, served and called."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from tests.docs.conftest import TUTORIAL
from tests.docs.pages import blocks, read
from tests.server.running import MERCATO, Running, environment

from mercato_client import Client


def test_the_tutorials_plugin_is_found_without_a_server(site: Path, tmp_path: Path) -> None:
    env = environment(tmp_path, ("mercato-shipping",), PYTHONPATH=str(site))
    listed = subprocess.run([MERCATO, "plugins", "--json"], check=True, capture_output=True, text=True, env=env)
    states = {row["plugin"]: (row["state"], row["models"]) for row in json.loads(listed.stdout)}
    assert states["mercato-shipping"] == ("LOADED", ["shipping.cost"])


def test_the_tutorials_command_gets_its_answer(server: Running) -> None:
    call = next(block.text for block in blocks(read(TUTORIAL)) if block.text.startswith("mercato predict"))
    arguments = [*shlex.split(call)[1:], "--server", server.address, "--json"]
    answer = subprocess.run([MERCATO, *arguments], check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout)["outputs"]["cost"] == [[7.0]]


def test_the_tutorials_model_is_certified_against_its_source(server: Running) -> None:
    with Client(server.address) as client:
        (version,) = client.model("shipping.cost").versions
    assert version.certificate is not None
    assert (version.certificate.kind, version.certificate.passed) == ("source", True)
    assert {"parity", "batch", "repeat", "examples"} <= set(version.certificate.checks)


def test_the_readme_counts_the_smallest_plugins_lines() -> None:
    (plugin,) = [block.text for block in blocks(read(TUTORIAL)) if block.title.endswith(".py")]
    assert f"the smallest has {len(plugin.splitlines())} lines" in read("README.md")
    assert f"最小的只有 {len(plugin.splitlines())} 行" in read("README.zh.md")
