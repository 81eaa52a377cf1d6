"""Both models as they are served: certified, and with a defined answer to everybody."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugins.recommender.conftest import MODELS
from tests.plugins.recommender.market import Served, export, item, run

from mercato_plugin import FolderError, Model, ModelFolder, Secret
from mercato_recommender import ItemsModel, RecommenderSettings
from mercato_recommender.answering import batch_of
from mercato_recommender.catalogue import read_catalogue
from mercato_server.errors import ExportFailed
from mercato_training.hashing import UserHash

HISTORY = [item(2, 3), item(2, 5), item(2, 1)]


@dataclass(frozen=True)
class Loading:
    """What a worker gives to `load`."""

    files: Path
    settings: RecommenderSettings
    version: int | None = 1


def catalogue(served: Served) -> tuple[str, ...]:
    return read_catalogue(served.trained.files / "catalogue.json", "recommender").items


def kinds(items: list[str]) -> Counter[str]:
    return Counter(name[1] for name in items)


def test_the_certificate_holds_the_answers_against_training(served: Served) -> None:
    certificate = served.artifact.certificate
    assert (certificate.kind, certificate.passed) == ("source", True)
    assert certificate.checks == ("batch", "examples", "parity", "repeat")
    judged = {error.output: error.rel_l2 for error in certificate.errors}
    assert judged.keys() == {"items", "scores", "item_id", "score"}
    assert max(judged.values()) == 0.0


def test_a_history_brings_more_of_its_kind_and_nothing_again(served: Served) -> None:
    (found,) = served.items(history=[HISTORY])
    assert len(found) == 10 and len(set(found)) == 10
    assert kinds(found).most_common(1)[0][0] == "2" and kinds(found)["2"] >= 6
    assert not set(found) & set(HISTORY)


def test_scores_fall_and_say_what_they_rest_on(served: Served) -> None:
    scores = served.answer(k=100, history=[HISTORY], candidates=[[*catalogue(served)]])["score"][0]
    assert (np.diff(scores) <= 0).all()
    assert scores[0] > 0


def test_a_known_user_is_answered_by_the_own_history(served: Served) -> None:
    users = json.loads((served.trained.files / "users.json").read_text())
    numbers = np.load(served.trained.files / "histories.npy")[users.index("user 4")]
    met = [catalogue(served)[number] for number in numbers.tolist() if number < len(catalogue(served))]
    assert served.items(user_id=["user 4"]) == served.items(history=[met[::-1]])
    assert kinds(served.items(user_id=["user 4"])[0]).most_common(1)[0][0] == "4"


def test_a_given_history_wins_over_the_user(served: Served) -> None:
    assert served.items(user_id=["user 4"], history=[HISTORY]) == served.items(history=[HISTORY])
    assert served.items(user_id=["user 4"], history=[[]]) == served.items(user_id=["user 4"])


@pytest.mark.parametrize("inputs", [{"user_id": ["nobody"]}, {"user_id": [""]}, {"history": [["no", "such"]]}])
def test_who_is_unknown_gets_what_is_popular(served: Served, inputs: Any) -> None:
    answer = served.answer(**inputs)
    items = catalogue(served)
    assert answer["item_id"][0].tolist() == list(items[:10])
    np.testing.assert_allclose(answer["score"][0], -np.arange(1, 11) / len(items), rtol=1e-6)


def test_unknown_ids_change_nothing(served: Served) -> None:
    plain = served.items(history=[HISTORY], candidates=[[item(0, 1), item(2, 7)]], exclude=[[item(0, 1)]])
    noisy: Any = {"history": [["x", *HISTORY, "y"]], "candidates": [["z", item(0, 1), item(2, 7)]]}
    assert served.items(**noisy, exclude=[["q", item(0, 1)]]) == plain == [[item(2, 7)]]


def test_candidates_bound_the_answer_and_may_be_of_the_history(served: Served) -> None:
    answer = served.answer(k=5, history=[HISTORY], candidates=[[HISTORY[0], item(0, 2)]])
    assert sorted(answer["item_id"][0].tolist()) == sorted(["", "", "", HISTORY[0], item(0, 2)])
    assert answer["item_id"][0].tolist()[2:] == [""] * 3
    assert answer["score"][0].tolist()[2:] == [0.0] * 3
    assert served.items(history=[HISTORY], candidates=[["x", "y"]]) == [[]]
    assert served.items(history=[HISTORY], candidates=[[]]) == served.items(history=[HISTORY])


def test_what_is_excluded_is_not_answered(served: Served) -> None:
    (first,) = served.items(history=[HISTORY])
    (second,) = served.items(history=[HISTORY], exclude=[first[:3]])
    assert second[:7] == first[3:]
    assert served.items(candidates=[first[:2]], exclude=[first[:2]]) == [[]]


def test_rows_of_a_batch_do_not_touch_each_other(served: Served) -> None:
    rows = [HISTORY, [item(1, 1)], [], [*catalogue(served)[:60]], ["unknown"]]
    together = served.answer(history=rows)
    for place, row in enumerate(rows):
        alone = served.answer(history=[row])
        for name in ("item_id", "score"):
            assert alone[name][0].tolist() == together[name][place].tolist()


@pytest.mark.parametrize("k", [1, 7, 100])
def test_k_is_the_width_of_the_answer(served: Served, k: int) -> None:
    answer = served.answer(k=k, history=[HISTORY, []])
    assert answer["item_id"].shape == answer["score"].shape == (2, k)
    assert answer["item_id"][0].tolist() == served.answer(k=100, history=[HISTORY])["item_id"][0, :k].tolist()


def test_hashed_users_are_found_with_the_salt_alone(market: Path, tmp_path: Path) -> None:
    salt = "0123456789abcdef0123"
    (tmp_path / "salt").write_text(salt + "\n")
    folder = run("recommender.items", market, tmp_path / "models", salt=tmp_path / "salt").folder
    assert UserHash(salt.encode())("user 4") in json.loads((folder.files / "users.json").read_text())
    assert "user 4" not in (folder.files / "users.json").read_text()
    items = read_catalogue(folder.files / "catalogue.json", "recommender").items

    def found(settings: RecommenderSettings) -> list[list[str]]:
        model = ItemsModel()
        model.load(Loading(folder.files, settings))
        history = model.preprocess(batch_of({"user_id": ["user 4", "nobody"]}, 10))["history"]
        return [[items[number] for number in row if number < len(items)] for row in history.tolist()]

    assert found(RecommenderSettings()) == [[], []]
    known, unknown = found(RecommenderSettings(Secret(salt + "\n")))
    assert (kinds(known).most_common(1)[0][0], unknown) == ("4", [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("catalogue.json", b"{", "is not JSON"),
        ("catalogue.json", b'{"format": 2}', "is not of format 1"),
        ("catalogue.json", b'{"format": 1, "items": [], "hashed": false}', "items is no list of 1 to"),
        ("catalogue.json", b'{"format": 1, "items": ["a", "a"], "hashed": false}', "items is no list of 1 to"),
        ("catalogue.json", b'{"format": 1, "items": ["a"], "hashed": 0}', "hashed is 0, expected true or false"),
        ("users.json", b'["a"]', r"int32 \[150, 50\], expected int32 with 1 rows"),
        ("users.json", b"{}", "is no list of different strings"),
        ("histories.npy", b"x", "is missing or no array"),
        ("items.safetensors", b"x", "is missing or no whole safetensors file"),
        ("towers.safetensors", b"x", "is missing or no whole safetensors file"),
    ],
)
def test_a_damaged_folder_is_refused(served: Served, name: str, content: bytes, message: str, tmp_path: Path) -> None:
    if not (served.trained.files / name).exists():
        pytest.skip("the other model's file")
    folder = _copied(served.trained, tmp_path / "folder", name, content)
    with pytest.raises(
        (FolderError, ExportFailed), match=f"recommender.*: .*{message}.*; train the model again"
    ) as refused:
        export(_model(served), folder, tmp_path / "store")
    assert str(tmp_path) not in str(refused.value)


def _model(served: Served) -> Model:
    return MODELS[served.trained.model]()


def _copied(folder: ModelFolder, place: Path, name: str, content: bytes) -> ModelFolder:
    """The folder with one file of other content."""
    shutil.copytree(folder.path, place)
    (place / "files" / name).write_bytes(content)
    return replace(folder, path=place)
