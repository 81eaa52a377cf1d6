"""search.products from training to answers: certified, exact, and clear about what it cannot look for."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugins.reviews.served import export, serve
from tests.plugins.search.conftest import Found, run
from tests.plugins.semantic.encoders import write_bert

from mercato_plugin import FolderError
from mercato_search import ProductsModel, SearchSettings
from mercato_search.catalogue import SCHEMA, read_queries
from mercato_search.facts import FILE, read_products, read_search
from mercato_search.relevance import recall_and_ndcg
from mercato_search.training import evaluate
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.errors import ExportFailed
from mercato_training import EvaluateContext, Job, Quiet, TrainingError
from mercato_training.data import Data


class Heard(Quiet):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def asked(found: Found, texts: Sequence[str] = (), images: Sequence[bytes] = (), **parameters: Any) -> BatchResult:
    rows = len(texts) or len(images)
    inputs = {"text": [*texts] or [""] * rows, "image": [*images] or [b""] * rows}
    weight = np.full(rows, parameters.pop("image_weight", 0.5))
    joined = JoinedBatch(
        {name: np.array(values, object) for name, values in inputs.items()},
        rows,
        {"k": 10, "image_weight": weight, **parameters},
        present={"text": np.full(rows, bool(texts)), "image": np.full(rows, bool(images))},
    )
    return found.served.worker.run(joined)


def queries_of(found: Found) -> tuple[list[str], list[bytes]]:
    data = Data(found.shop)
    queries = read_queries(data, data.table(SCHEMA))
    return [text for text in queries.texts if text][:40], [file for file in queries.pictures if file][:20]


def test_the_certificate_holds_the_answers_against_training(found: Found, encoded: Found) -> None:
    # An encoder that was fitted to nothing leaves no clear order of products to record.
    outputs = {"score", "product_id", "text.vector", "image.vector"}
    for each, held in ((found, outputs), (encoded, {"score", "vector"})):
        certificate = each.served.artifact.certificate
        assert (certificate.kind, certificate.passed) == ("source", True)
        assert certificate.checks == ("batch", "examples", "padding", "parity", "repeat")
        assert {error.output for error in certificate.errors} == held


def test_the_index_finds_what_comparing_all_finds(found: Found) -> None:
    facts, metrics = read_search(found.trained.folder.files / FILE), found.trained.evaluation.metrics
    assert facts.image is not None and facts.text.index.kind == facts.image.index.kind == "inverted"
    assert metrics["index_recall"] == min(metrics["index_recall.text"], metrics["index_recall.image"]) >= 0.98


def test_scores_are_those_of_the_stored_vectors(found: Found) -> None:
    """A product's own vector scores 1 with itself, and every score is a sum of the kinds' scores."""
    texts, images = queries_of(found)
    count = min(len(texts), len(images))
    facts = read_search(found.trained.folder.files / FILE)
    ids = read_products(found.trained.folder.files / "products.json", facts.products)
    words, pictures, both = (
        asked(found, texts[:count], k=100).outputs,
        asked(found, (), images[:count], k=100).outputs,
        asked(found, texts[:count], images[:count], image_weight=0.25, k=100).outputs,
    )
    scores = [
        [dict(zip(row, values, strict=True)) for row, values in zip(part["product_id"], part["score"], strict=True)]
        for part in (words, pictures, both)
    ]
    assert {name for row in scores[2] for name in row} <= set(ids)
    for text, picture, sums in zip(*scores, strict=True):
        known = text.keys() & picture.keys() & sums.keys()
        assert len(known) > 50
        for name in known:
            assert sums[name] == pytest.approx(0.75 * text[name] + 0.25 * picture[name], abs=1e-5)


def test_answers_are_as_wide_as_was_asked_for_and_best_first(found: Found) -> None:
    texts, images = queries_of(found)
    for k in (1, 3, 100):
        answer = asked(found, texts, k=k).outputs
        assert answer["product_id"].shape == answer["score"].shape == (len(texts), k)
        assert (np.diff(answer["score"], axis=1) <= 0).all() and answer["score"].dtype == np.float32
        assert all(len(set(row)) == k for row in answer["product_id"].tolist())
    assert asked(found, (), images).outputs["score"].max() <= 1 + 1e-5


def test_a_row_alone_has_the_answer_that_it_has_among_others(found: Found) -> None:
    texts, images = queries_of(found)
    requests: list[tuple[list[str], list[bytes]]] = [(texts, []), ([], images), (texts[: len(images)], images)]
    for words, pictures in requests:
        whole = asked(found, words, pictures).outputs["score"]
        for row in (0, len(whole) - 1):
            alone = asked(found, words[row : row + 1], pictures[row : row + 1]).outputs["score"]
            np.testing.assert_allclose(alone[0], whole[row], rtol=0, atol=2e-6)


def test_weights_count_row_by_row_and_only_where_both_are_given(found: Found) -> None:
    texts, images = queries_of(found)
    text, image = texts[:1], images[:1]
    alone = [asked(found, text).outputs, asked(found, (), image).outputs]
    joined = asked(found, text * 3, image * 3, image_weight=[0.0, 1.0, 0.5]).outputs
    for row, expected in enumerate(alone):
        np.testing.assert_allclose(joined["score"][row], expected["score"][0], rtol=0, atol=2e-6)
    assert joined["score"][2].tolist() != joined["score"][0].tolist()
    for weight in (0.0, 1.0):
        weighed = asked(found, text, image_weight=weight).outputs
        np.testing.assert_allclose(weighed["score"], alone[0]["score"], rtol=0, atol=2e-6)


def test_a_row_without_a_text_and_a_picture_is_refused_alone(found: Found) -> None:
    texts, images = queries_of(found)
    refused = asked(found, [texts[0], "", " \n"]).rejected
    why = "neither text nor image is given; expected one of them, or both"
    assert refused == {1: ("text", why), 2: ("text", why)}
    assert asked(found, ["", texts[0]], images[:2]).rejected == {}


def test_a_damaged_picture_is_refused_alone(found: Found) -> None:
    _, images = queries_of(found)
    result = asked(found, (), [images[0], images[1][:60], images[2]])
    assert {row: field for row, (field, _) in result.rejected.items()} == {1: "image"}
    assert result.outputs["product_id"][0].tolist() == asked(found, (), images[:1]).outputs["product_id"][0].tolist()


def test_personal_data_is_not_looked_for(found: Found) -> None:
    text = queries_of(found)[0][0]
    one, other = (asked(found, [f"{text} {who}"]).outputs for who in ("a@b.com", "jane.doe@mail.org"))
    assert one["score"].tolist() == other["score"].tolist()


@pytest.mark.parametrize(("which", "rows"), [("found", 240), ("encoded", 96)])
def test_what_is_served_scores_what_training_found(which: str, rows: int, request: pytest.FixtureRequest) -> None:
    found: Found = request.getfixturevalue(which)

    def predict(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        count = len(next(iter(inputs.values())))
        parts = [{n: v[at : at + 64].tolist() for n, v in inputs.items()} for at in range(0, count, 64)]
        answers = [asked(found, part.get("text", ()), part.get("image", ())).outputs for part in parts]
        return {"product_id": np.concatenate([answer["product_id"] for answer in answers])}

    context = EvaluateContext(found.trained.folder.files, 1, None)
    judged = evaluate(Job("", found.shop, Path()).read(), predict, context)
    own = found.trained.evaluation
    assert judged.metrics == pytest.approx({name: own.metrics[name] for name in judged.metrics}, abs=0.01)
    assert judged.rows == own.rows == rows


def write_products(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("product_id", "name"), *rows])
    return path


WORDS = (("p1", "red shoe"), ("p2", "blue shoe"), ("p3", "red kettle"), ("p4", "steel kettle"), ("p5", "green lamp"))


def test_a_table_of_names_is_enough(tmp_path: Path) -> None:
    trained = run(write_products(tmp_path / "mine.csv", WORDS), tmp_path / "models", text="terms", width="4")
    metrics = trained.evaluation.metrics
    assert metrics["recall@10.title"] == metrics["baseline_recall@10.title"] == metrics["index_recall"] == 1.0
    small = Found(tmp_path, trained, serve(ProductsModel(), trained.folder, tmp_path / "store", SearchSettings()))
    answer = asked(small, ["red shoe", "nothing known"], k=7).outputs
    assert answer["product_id"][0, 0] == "p1" and sorted(answer["product_id"][0, :5]) == [f"p{n}" for n in range(1, 6)]
    assert answer["product_id"][0, 5:].tolist() == ["", ""] and answer["score"][0, 5:].tolist() == [0.0, 0.0]
    assert answer["product_id"][1].tolist() == [""] * 7 and not answer["score"][1].any()
    picture = {0: ("image", "this version's index has no pictures; train it with --set vision=FOLDER, a model folder "
                   "of vision.category")}  # fmt: skip
    assert asked(small, ["red shoe"], [b"x"]).rejected == asked(small, (), [b"x"]).rejected == picture


def test_an_encoder_that_does_not_know_the_language_gives_way_to_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_SEARCH__ENCODER", str(write_bert(tmp_path / "encoder")))
    rows = [(f"p{number}", f"ковёр номер {number} шерсть") for number in range(9)]
    trained = run(write_products(tmp_path / "p.csv", rows), tmp_path / "models", heard := Heard(), width="4")
    assert trained.folder.made["notes"]["text"] == "terms"
    assert "of the tokens are unknown to the encoder, so texts are read by the catalogue's own terms" in heard.said[0]
    known = write_products(tmp_path / "k.csv", [(f"p{n}", "红色跑鞋" + "red " * n) for n in range(9)])
    assert run(known, tmp_path / "models").folder.made["notes"]["text"] == "encoder"


def test_a_folder_that_is_no_version_of_vision_is_refused(tmp_path: Path) -> None:
    data = write_products(tmp_path / "mine.csv", WORDS)
    with pytest.raises(TrainingError, match=r"--set vision=nowhere: .*; expected a version's folder, such as models/"):
        run(data, tmp_path / "models", text="terms", vision=str(tmp_path / "nowhere"))


def test_another_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_with, other = (SearchSettings(write_bert(tmp_path / name)) for name in ("one", "two"))
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_SEARCH__ENCODER", str(trained_with.encoder))
    trained = run(write_products(tmp_path / "mine.csv", WORDS), tmp_path / "models", text="encoder")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-5}))
    with pytest.raises(ExportFailed, match=r"the index was made with [0-9a-f]{12} \(mean\); set encoder to that one"):
        export(ProductsModel(), trained.folder, tmp_path / "store", other)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"products": 0}, "products is 0, expected a whole number of at least 1"),
        ({"text": None}, "holds 'None', expected the facts of a tower with its index"),
        ({"text": {"tower": "other", "width": 3, "vocab": 3, "index": {"kind": "flat"}}}, "expected the facts"),
        ({"text": {"tower": "terms", "width": 3, "vocab": 3, "analyzer": "word", "index": {"kind": "x"}}}, "facts"),
        ({"image": {"size": 40, "width": -1, "index": {"kind": "flat"}}}, "expected the facts of a tower"),
        ({"image": {"size": 4, "width": 1, "index": {"kind": "inverted", "lists": 3, "probes": 4}}}, "facts of a"),
        ({"languages": "zh"}, "languages is no list of different strings"),
    ],
)
def test_facts_that_training_did_not_write_are_refused(
    change: dict[str, Any], why: str, found: Found, tmp_path: Path
) -> None:
    facts = {**json.loads((found.trained.folder.files / FILE).read_text()), **change}
    (tmp_path / FILE).write_text(json.dumps(facts))
    with pytest.raises(FolderError, match=f"search.products: {FILE}: .*{why}.*; train the model again"):
        read_search(tmp_path / FILE)


def test_the_specification_follows_the_folder(found: Found, encoded: Found) -> None:
    terms, ids = found.served.spec, encoded.served.spec
    assert set(terms.inputs) == set(ids.inputs) == {"text", "image"}
    assert (set(terms.graphs), terms.opset, terms.languages) == ({"text", "image"}, 20, ())
    assert (set(ids.graphs), ids.opset, ids.languages) == ({"text"}, 24, ("mul",))


def test_recall_and_gain_are_those_of_the_textbook() -> None:
    found = np.array([[1, 2, 3, -1], [9, 8, 7, 6]])
    recall, gain = recall_and_ndcg(found, [frozenset({2, 3}), frozenset({5})])
    assert recall == 0.5
    best = 1 + 1 / np.log2(3)
    assert gain == pytest.approx((1 / np.log2(3) + 1 / np.log2(4)) / best / 2)
