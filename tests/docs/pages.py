"""Owns reading the documents: headings, sections, code blocks and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]*)\)")


@dataclass(frozen=True)
class Block:
    """One code block: its language, the file it is the content of, and its text."""

    language: str
    title: str
    text: str


def read(path: str) -> str:
    """The text of a document, by its path below the top folder."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Every code block, in order."""
    return [Block(*match) for match in FENCE.findall(text)]


def sections(text: str) -> dict[str, str]:
    """Heading, back quotes left out, to the text below it, up to the next heading of any level."""
    prose = FENCE.sub("", text)
    found = list(HEADING.finditer(prose))
    ends = [match.start() for match in found[1:]] + [len(prose)]
    return {m.group(2).replace("`", ""): prose[m.end() : end] for m, end in zip(found, ends, strict=True)}


def anchors(text: str) -> set[str]:
    """The fragments that links may name, as GitHub makes them from headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in sections(text)}


def links(text: str) -> list[str]:
    """The targets of all links outside code."""
    return LINK.findall(FENCE.sub("", text))
