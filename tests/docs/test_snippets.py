"""Shows that the documents' Python programs run against a server and print what the documents say."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.docs.conftest import NOTEBOOK, SERVING, SHARING, TEACHING, TUTORIAL
from tests.docs.pages import ROOT, blocks, read
from tests.server.running import Running

ADDRESS = "localhost:8500"
SERVERS = {SHARING: "shared", NOTEBOOK: "trained", TEACHING: "trained"}
PAGES = ("README.md", "docs/how-to/call-from-python.md", TUTORIAL, SERVING, *SERVERS)


def programs() -> Iterator[tuple[str, str, str]]:
    """Yield page, program and the text block behind it: what the program prints."""
    for page in PAGES:
        found = blocks(read(page))
        for block, following in pairwise(found):
            if block.language == "python" and ADDRESS in block.text:
                assert following.language == "text", f"{page}: a program without the text it prints"
                yield page, block.text, following.text


@pytest.mark.parametrize(("page", "program", "printed"), list(programs()))
def test_a_program_prints_what_its_page_says(
    page: str, program: str, printed: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert program.count(ADDRESS) == 1
    running: Running = request.getfixturevalue(SERVERS.get(page, "server"))
    code = program.replace(ADDRESS, running.address)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (run.stdout, run.stderr) == (printed, ""), page


def test_both_languages_show_the_same_code() -> None:
    english, chinese = (blocks(read(page)) for page in ("README.md", "README.zh.md"))
    assert english == chinese


def test_every_block_of_toml_parses_and_every_block_of_python_compiles() -> None:
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        for block in blocks(path.read_text(encoding="utf-8")):
            if block.language == "toml":
                tomllib.loads(block.text)
            elif block.language == "python":
                compile(block.text, str(path), "exec")
