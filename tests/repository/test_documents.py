"""Shows that the documents' links lead somewhere, their verbs exist and both languages give the same commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^```(?:sh|bash|console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
VERB = re.compile(r"`make ([a-z-]+)|^(?:\$ )?make ([a-z-]+)", re.MULTILINE)


def documents(root: Path) -> Iterator[Path]:
    """Yield every document of the repository, environments and caches left out."""
    for path in root.rglob("*.md"):
        if not any(part.startswith(".") or part in ("dist", "node_modules") for part in path.relative_to(root).parts):
            yield path


def commands(path: Path) -> list[str]:
    """Return the code of a document line by line, without its comments."""
    lines = [line for block in FENCE.findall(path.read_text("utf-8")) for line in block.splitlines()]
    return [line.partition("  #")[0].rstrip() for line in lines if not line.lstrip().startswith("#")]


def test_every_link_leads_to_a_file(root: Path) -> None:
    links = [(path, link) for path in documents(root) for link in LINK.findall(path.read_text("utf-8"))]
    broken = [(str(path), link) for path, link in links if "://" not in link and not (path.parent / link).exists()]
    assert broken == []


def test_every_make_verb_exists(root: Path) -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {first or second for path in documents(root) for first, second in VERB.findall(path.read_text("utf-8"))}
    assert named - verbs == set()


def test_both_languages_give_the_same_commands(root: Path) -> None:
    assert commands(root / "README.md") == commands(root / "README.zh.md")
