"""`mercato export` and `mercato certificate` over the installed reference plugin."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mercato_server.commands import certificate, export

MODEL = "pricing.linear"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The commands take the project's logger over, as a process of their own may."""
    logger = logging.getLogger("mercato")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def call(command: Any, *arguments: str | Path) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def exported(store: Path) -> dict[str, str]:
    code, out, _ = call(export.command, MODEL, "--store", store, "--json")
    (row,) = json.loads(out)
    assert (code, row["model"], row["certificate"], row["reason"]) == (0, MODEL, "source", "")
    return dict(row)


def test_a_model_is_exported_until_it_is_stored_intact(tmp_path: Path) -> None:
    code, _, told = call(certificate.command, MODEL, "--store", tmp_path)
    assert code == 1 and f"is not stored; run: mercato export {MODEL}" in told

    row = exported(tmp_path)
    assert row["state"] == "EXPORTED"
    assert exported(tmp_path) == {**row, "state": "STORED"}

    code, out, _ = call(certificate.command, MODEL, "--store", tmp_path, "--json")
    shown = json.loads(out)
    assert code == 0 and shown["passed"] and shown["digest"] == row["digest"]
    code, out, _ = call(certificate.command, MODEL, "--store", tmp_path)
    assert code == 0 and "held against the source itself" in out

    (graph,) = tmp_path.glob("objects/*/graphs/model.onnx")
    graph.write_bytes(graph.read_bytes() + b"x")
    code, _, told = call(certificate.command, MODEL, "--store", tmp_path)
    assert code == 1 and "'graphs/model.onnx' has" in told and str(tmp_path) not in told
    assert exported(tmp_path)["state"] == "EXPORTED"


def test_a_model_that_is_not_installed_is_named(tmp_path: Path) -> None:
    code, _, told = call(export.command, "shop.none", "--store", tmp_path)

    assert code == 2 and "'shop.none' is not installed" in told
