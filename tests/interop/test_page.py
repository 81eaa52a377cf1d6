"""Shows that the page on other languages tells what is so: its program runs, its requests are answered."""

import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from tests.docs.pages import ROOT, blocks, read
from tests.interop.languages import NODE, script
from tests.server.calls import Wire
from tests.server.running import PATIENCE, Running

from mercato.v1 import prediction_pb2

PAGE = "docs/how-to/call-from-other-languages.md"
ADDRESS = "localhost:8500"


def test_the_program_prints_what_the_page_says(server: Running, tmp_path: Path) -> None:
    found = blocks(read(PAGE))
    (at,) = (number for number, block in enumerate(found) if block.language == "js")
    source, line, printed = found[at : at + 3]
    assert line.text == f"node {source.title}\n"
    assert source.text.count(ADDRESS) == 1 and '"protos"' in source.text
    program = tmp_path / source.title
    program.write_text(source.text.replace(ADDRESS, server.address), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    assert script(program) == printed.text


@pytest.mark.parametrize("body", re.findall(r"-d '(.+)' ", read(PAGE)))
def test_a_request_of_the_shell_is_answered(body: str, wire: Wire) -> None:
    sent = json_format.Parse(body, prediction_pb2.PredictRequest())
    assert len(wire.prediction.Predict(sent, timeout=PATIENCE).outputs) == 1


def test_the_page_names_the_versions_that_are_tried() -> None:
    package = (ROOT / "tests/interop/node/package.json").read_text(encoding="utf-8")
    names = dict(re.findall(r'"(@grpc/[\w-]+)": "(.+)"', package))
    assert " ".join(f"{name}@{version}" for name, version in names.items()) in read(PAGE)


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (NODE / "package-lock.json").read_text(encoding="utf-8")
