"""Three sections of docs/reference/bad-input.md that are made of rows: `python -m tests.server.bad.files_page`."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.server.bad import files_onnx, files_settings, files_store, files_weights, media_images, media_texts, plugins

HEAD = "| number | input | rows | outcome |\n|---|---|---|---|\n"
SECTIONS = ("Files", "Media and text", "Plugins")
FATES = {"refused": "the plugin is refused: {}", "failed": "the model is FAILED: {}", "serves": "served"}


@dataclass(frozen=True)
class Entry:
    """One row and the outcome it shares with others."""

    number: int
    name: str
    outcome: str


def entries(rows: Iterable[Any], good: str, bad: str) -> Iterator[Entry]:
    """Rows whose `says` tells whether they are refused."""
    return (Entry(row.number, row.name, bad if row.says else good) for row in rows)


def onnx() -> Iterator[Entry]:
    rows = [*files_onnx.ROWS, files_onnx.LOOP]
    return (Entry(row.number, row.name, f"FAILED: {row.code}" if row.code else "served") for row in rows)


def store() -> Iterator[Entry]:
    damaged = "FAILED: ARTIFACT_DAMAGED; with build tools exported again"
    rows = files_store.ROWS
    return (Entry(r.number, r.name, damaged if r.code == "ARTIFACT_DAMAGED" else f"FAILED: {r.code}") for r in rows)


def images() -> Iterator[Entry]:
    refused = "INVALID_REQUEST on `inputs.NAME`"
    for row in media_images.ROWS:
        ours = f"{refused}, by the plugin" if "cannot be decoded" in row.says else refused
        yield Entry(row.number, row.name, ours if row.says else "answered")


def made() -> Iterator[Entry]:
    rows = [*plugins.ROWS, *plugins.ENDING]
    yield from (Entry(row.number, row.name, FATES[row.fate].format(row.code)) for row in rows)
    for mood in (*plugins.MOODS, *plugins.DARK_MOODS, plugins.LOOPS):
        yield Entry(mood.number, mood.name, f"a request: {mood.reason}" if mood.says else "a request: answered")


def table(found: Iterable[Entry]) -> str:
    """One line for every number and outcome."""
    groups: dict[tuple[int, str], list[str]] = {}
    for entry in found:
        groups.setdefault((entry.number, entry.outcome), []).append(entry.name)
    lines = [f"| {number} | {'; '.join(names)} | {len(names)} | {how} |" for (number, how), names in groups.items()]
    return HEAD + "\n".join(lines)


def section(name: str) -> str:
    """The tables of one section."""
    if name == "Files":
        weights = entries(files_weights.ROWS, "", "FAILED: EXPORT_FAILED")
        settings = entries(files_settings.ROWS, "the server starts", "CONFIG_INVALID: one line, exit code 1")
        return table([*onnx(), *weights, *store(), *settings])
    if name == "Media and text":
        texts = entries(media_texts.ROWS, "a finite unit vector", "INVALID_REQUEST on `inputs.NAME`")
        return table([*images(), *texts])
    return table(made())


if __name__ == "__main__":
    for title in SECTIONS:
        sys.stdout.write(f"## {title}\n\n{section(title)}\n\n")
