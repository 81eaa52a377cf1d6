"""Weights in safetensors: every spoilt file is refused with its name, and one fails its model in the running server."""

import os
import shutil
from pathlib import Path

import pytest
from tests.plugins.semantic.encoders import Context, write_bert
from tests.server.bad.files_weights import ROWS, Row
from tests.server.calls import SEMANTIC
from tests.server.conftest import Start

from mercato_semantic import EncoderSettings
from mercato_semantic.building import build


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("weights") / "encoder")


@pytest.fixture
def folder(encoder: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(encoder, tmp_path / "encoder")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_spoilt_weights_are_refused_by_name(folder: Path, tmp_path: Path, row: Row) -> None:
    row.make(folder)
    (saved := tmp_path / "saved").mkdir()
    with pytest.raises(ValueError, match="semantic.encoder") as refused:
        build(Context(saved, EncoderSettings(encoder=folder)))

    assert row.says in str(refused.value) and "semantic.encoder: model.safetensors" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_in_the_server_the_model_fails_and_the_others_serve(start: Start, store: Path, folder: Path) -> None:
    """The store that was filled before has the good model, so that only the encoder is exported."""
    ROWS[0].make(folder)
    running = start(
        store, plugins=("mercato-pricing", "mercato-semantic"), MERCATO_PLUGINS__MERCATO_SEMANTIC__ENCODER=str(folder)
    )
    states = {item["model"]: (item["state"], item["reason"]) for item in running.ready()["models"]}

    assert states["pricing.linear"][0] == "AVAILABLE"
    state, reason = states[SEMANTIC]
    assert state == "FAILED" and ROWS[0].says in reason
    assert reason.startswith(f"EXPORT_FAILED: model {SEMANTIC!r}: build raised ValueError: ")
    assert str(folder.parent) not in reason


def test_a_pipe_in_the_folder_is_not_waited_for(start: Start, store: Path, folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    running = start(
        store, plugins=("mercato-pricing", "mercato-semantic"), MERCATO_PLUGINS__MERCATO_SEMANTIC__ENCODER=str(folder)
    )

    assert [item["state"] for item in running.ready()["models"]] == ["AVAILABLE"]
    assert "has no readable config.json" in running.log
