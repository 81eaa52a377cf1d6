"""Which model folders are served, and what a plugin makes of them, without a server."""

import json
import sys
from pathlib import Path

import pytest
from tests.server.folders.site import DISTRIBUTION, SCALE, Site

from mercato_plugin import FolderError, ModelFolder
from mercato_server import config
from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import ConfigError
from mercato_server.plugins.host import load_one
from mercato_server.store.folders import ServedFolders


@pytest.fixture
def trained(site: Site) -> Path:
    """Four versions."""
    for factor in range(1, 5):
        site.train(factor)
    return site.models


def served(folders: ServedFolders, model: str = SCALE) -> list[int] | None:
    found = folders(model)
    return None if found is None else list(found)


def test_the_highest_is_served_with_those_that_labels_mean_and_those_that_serve(trained: Path) -> None:
    assert served(ServedFolders(trained)) == [4]
    labelled = ServedFolders(trained, labelled={SCALE: (2, 9)})
    assert served(labelled) == [4, 2]
    assert served(labelled.keeping([(SCALE, 1), ("shop.other", 3), (SCALE, 7)])) == [4, 2, 1]


def test_named_versions_are_served_instead(trained: Path) -> None:
    named = ServedFolders(trained, {SCALE: (3, 1)}, {SCALE: (2,)})
    assert served(named) == [3, 1]
    assert served(named.keeping([(SCALE, 4), (SCALE, 9)])) == [4, 3, 1]


def test_named_versions_that_are_not_there_are_told(trained: Path, site: Site) -> None:
    found = ServedFolders(trained, {SCALE: (9, 7)})(SCALE)
    assert found is not None and list(found) == [9, 7]
    way_out = "bring it back, or name versions that are there in `versions` of [models.'shop.scale']"
    assert str(found[9]) == f"model folder shop.scale 9 is not there; there are 4, 3, 2, 1: {way_out}"
    for factor in range(8):
        site.train(factor)
    assert served(ServedFolders(trained, {SCALE: (20, 3)})) == [20, 3]
    told = ServedFolders(trained, {SCALE: (20,)})(SCALE) or {}
    assert "; there are 12, 11, 10, 9, 8, 7, 6, 5 and 4 more: " in str(told[20])


def test_what_is_kept_alone_hides_all_else(trained: Path) -> None:
    folders = ServedFolders(trained, {SCALE: (3, 9)}, {SCALE: (2,)})
    assert served(folders.keeping([(SCALE, 1)], alone=True)) == [1]
    assert served(folders.keeping([(SCALE, 1)], alone=True), "shop.other") is None
    assert served(folders.keeping([], alone=True)) is None
    gone = folders.keeping([(SCALE, 9)], alone=True)(SCALE)
    assert gone is not None and isinstance(gone[9], FolderError)


def test_a_folder_that_the_specification_refuses_is_damaged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.train(3)
    site.train(3, torn=True)
    monkeypatch.syspath_prepend(site.path)
    info = PluginInfo(DISTRIBUTION, "1.0", "mercato_folders", "mercato_folders")
    found = load_one(info, lambda _: {}, ServedFolders(site.models, {SCALE: (1, 2)}))
    sys.modules.pop("mercato_folders")
    assert [(refusal.code, refusal.model, refusal.version) for refusal in found.refused] == [
        ("FOLDER_DAMAGED", SCALE, 2)
    ]
    assert found.refused[0].reason == (
        "mercato-folders: model folder of shop.scale version 2: scale.json has no scale; train the model again"
    )
    assert (SCALE, 1) in [(offered.spec.name, offered.spec.version) for offered in found.models]


def test_without_a_folder_there_is_none(trained: Path) -> None:
    assert served(ServedFolders(trained), "shop.other") is None
    assert served(ServedFolders(trained / "none")) is None
    assert served(ServedFolders()) is None


def test_what_is_damaged_stands_beside_what_is_not(trained: Path) -> None:
    (trained / SCALE / "3" / "metrics.json").unlink()
    found = ServedFolders(trained, {SCALE: (3, 2)})(SCALE)
    assert found is not None and isinstance(found[3], FolderError) and isinstance(found[2], ModelFolder)


def test_the_highest_that_can_be_read_is_served_and_those_above_it_are_told(trained: Path) -> None:
    for version in (2, 4):
        (trained / SCALE / str(version) / "manifest.json").unlink()
    folders = ServedFolders(trained)
    found = folders(SCALE)
    assert found is not None and list(found) == [4, 3]
    assert isinstance(found[4], FolderError) and isinstance(found[3], ModelFolder)
    (trained / SCALE / "3" / "manifest.json").unlink()
    assert served(folders) == [4, 3, 2, 1]
    assert served(ServedFolders(trained, {SCALE: (4,)})) == [4]


def test_every_look_is_a_new_one(trained: Path, site: Site) -> None:
    folders = ServedFolders(trained)
    assert served(folders) == [4]
    site.train(5)
    assert served(folders) == [5]


def test_the_way_to_a_worker_changes_nothing() -> None:
    folders = ServedFolders(Path("/srv/models"), {SCALE: (2, 1)}, {SCALE: (3,)}).keeping([(SCALE, 4)], alone=True)
    data = json.loads(json.dumps(folders.to_json()))
    assert ServedFolders.from_json(data).to_json() == data
    assert ServedFolders.from_json(data).root == Path("/srv/models")
    assert ServedFolders.from_json(ServedFolders().to_json()).root is None


def test_settings_say_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = {SCALE: {"versions": [2], "labels": {"stable": 1}}, "shop.other": {"labels": {"stable": 3}}}
    folders = config.load(models_dir=Path("models"), models=models).served_folders()
    assert folders == ServedFolders(tmp_path / "models", {SCALE: (2,)}, {SCALE: (1,), "shop.other": (3,)})
    assert config.load().served_folders().root is None


@pytest.mark.parametrize("versions", [[], [0], [-1], [2**31], ["x"]])
def test_versions_are_numbers_of_folders(versions: list[object]) -> None:
    with pytest.raises(ConfigError, match=r"^models\.shop\.scale\.versions"):
        config.load(models={SCALE: {"versions": versions}})
