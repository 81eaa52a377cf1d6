"""reviews.sentiment: equal to scikit-learn, exact in what it explains, certified, and served."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plugins.reviews.corpus import CORPORA, STRANGE, TEXTS
from tests.plugins.reviews.served import Served, export, serve, spec_of, write_folder

from mercato_plugin import Axis, Example, FolderError, Label, ModelFolder
from mercato_plugin.masking import masked
from mercato_reviews import SentimentModel
from mercato_reviews.lexicon import FILE, MODEL, WEIGHTS, Lexicon
from mercato_reviews.sentiment_fit import Regression, fitted
from mercato_server.errors import ExportFailed, ParityFailed


def fit(analyzer: str, labels: int = 3) -> Regression:
    """A regression on the corpus of the analyzer's language, with the first `labels` of its labels."""
    corpus = CORPORA[analyzer]
    kept = list(dict.fromkeys(label for _, label in corpus))[:labels]
    texts, names = zip(*((masked(text), label) for text, label in corpus if label in kept), strict=True)
    return fitted(texts, names, analyzer=analyzer, max_features=500, min_df=1, c=10.0)


def recorded(regression: Regression, texts: Sequence[str]) -> Example:
    return Example({"text": list(texts)}, outputs=regression.answers([masked(text) for text in texts]))


def write(models_dir: Path, regression: Regression, examples: Sequence[Example], **facts: Any) -> ModelFolder:
    lexicon = {**regression.lexicon(("zh",)).plain(), **facts}
    return write_folder(models_dir, MODEL, (FILE, lexicon), (WEIGHTS, regression.tensors()), examples)


@pytest.fixture(
    scope="module", params=[("word", 3), ("char", 3), ("word", 2)], ids=["english", "chinese", "two-labels"]
)
def regression(request: pytest.FixtureRequest) -> Regression:
    return fit(*request.param)


@pytest.fixture(scope="module")
def served(regression: Regression, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("sentiment")
    texts = [text for text, _ in CORPORA[regression.vectorizer.analyzer]] + STRANGE
    written = write(folder / "models", regression, [recorded(regression, texts), recorded(regression, ["!!!"])])
    return serve(SentimentModel(), written, folder / "store")


def check(answer: Mapping[str, Any], expected: Mapping[str, Any], labels: Sequence[str]) -> None:
    assert [labels[number] for number in answer["label"]] == expected["label"]
    for name in ("probability", "probabilities", "bias", "logit", "weights", "rest"):
        np.testing.assert_allclose(answer[name], expected[name], rtol=0, atol=1e-12)
    assert answer["words"].tolist() == expected["words"]
    whole = answer["weights"].sum(axis=1) + answer["rest"] + answer["bias"]
    np.testing.assert_allclose(whole, answer["logit"], rtol=0, atol=1e-12)


def test_the_certificate_holds_the_answers_against_training(served: Served) -> None:
    certificate = served.artifact.certificate
    assert (certificate.kind, certificate.passed) == ("source", True)
    assert certificate.checks == ("batch", "examples", "padding", "parity", "repeat")
    judged = {error.output: error for error in certificate.errors}
    assert served.spec.outputs.keys() <= judged.keys()
    assert max(error.rel_l2 for error in certificate.errors) < 1e-12


def test_strange_texts_are_answered_as_by_scikit_learn(served: Served, regression: Regression) -> None:
    check(served.answer(STRANGE), regression.answers([masked(text) for text in STRANGE]), regression.labels)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_any_texts_are_answered_as_by_scikit_learn(texts: list[str], served: Served, regression: Regression) -> None:
    check(served.answer(texts), regression.answers([masked(text) for text in texts]), regression.labels)


def test_a_text_without_a_known_term_has_the_intercepts_alone(served: Served, regression: Regression) -> None:
    answer = served.answer(["!!!", ""])
    intercept = (
        regression.classifier.intercept_.max()
        if len(regression.labels) > 2
        else abs(regression.classifier.intercept_[0])
    )
    assert answer["words"].tolist() == [[""] * 5] * 2
    assert not answer["weights"].any() and not answer["rest"].any()
    np.testing.assert_array_equal(answer["logit"], answer["bias"])
    np.testing.assert_allclose(answer["logit"], intercept, rtol=1e-12)


def test_what_is_personal_does_not_count(served: Served) -> None:
    one, other = "good 质量 a@b.com 13812345678", "good 质量 jane.doe@mail.org +86 139-8765-4321"
    answer = served.answer([one, other])
    for name in served.spec.outputs:
        assert answer[name][0].tolist() == answer[name][1].tolist()


def test_a_row_alone_is_answered_as_among_others(served: Served) -> None:
    together = served.answer(STRANGE)
    for row, text in enumerate(STRANGE):
        alone = served.answer([text])
        assert alone["words"][0].tolist() == together["words"][row].tolist()
        np.testing.assert_allclose(alone["probabilities"][0], together["probabilities"][row], rtol=0, atol=1e-12)


def test_the_specification_follows_the_folder(served: Served, regression: Regression) -> None:
    label, terms = served.spec.outputs["label"], served.spec.graphs["model"].inputs["terms"]
    assert isinstance(label, Label) and label.names == regression.labels
    assert served.spec.languages == ("zh",)
    count = len(regression.vectorizer.vocabulary_)
    assert (terms.high, terms.pad, terms.axes[1]) == (count - 1, 0, Axis("terms", count))


def test_more_terms_than_the_graph_takes_are_cut_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mercato_reviews.lexicon.MOST_TERMS", 4)
    served = serve(SentimentModel(), write(tmp_path, fit("word"), [Example({"text": ["good"]})]), tmp_path / "store")
    result = served.result(["great shoes", "great shoes great fit and very comfortable"])
    assert result.truncated == {"text": {1}}
    assert set(result.outputs["words"][1]) <= {"great", "shoes", "fit", "and", ""}
    assert served.spec.graphs["model"].inputs["terms"].axes[1] == Axis("terms", 4)


def test_an_answer_that_training_did_not_compute_fails_the_export(tmp_path: Path) -> None:
    regression = fit("word")
    example = recorded(regression, ["great shoes"])
    assert example.outputs is not None
    wrong = {**example.outputs, "rest": example.outputs["rest"] + 1e-6}
    with pytest.raises(ParityFailed, match="output 'rest' fails check 'examples'"):
        export(
            SentimentModel(), write(tmp_path, regression, [Example(example.inputs, outputs=wrong)]), tmp_path / "store"
        )


def test_a_hundred_labels_are_served(tmp_path: Path) -> None:
    labels = tuple(f"标签{number}" for number in range(100))
    lexicon = Lexicon(labels, "char", tuple("质量好坏"))
    tensors = {
        "idf": torch.ones(4, dtype=torch.float64),
        "coefficients": torch.eye(4, 100, dtype=torch.float64),
        "intercepts": torch.zeros(100, dtype=torch.float64),
    }
    folder = write_folder(tmp_path, MODEL, (FILE, lexicon.plain()), (WEIGHTS, tensors), [Example({"text": ["好"]})])
    answer = serve(SentimentModel(), folder, tmp_path / "store").answer(["坏坏", "好"])
    assert answer["label"].tolist() == [3, 2]
    assert answer["logit"].tolist() == [1.0, 1.0]
    assert answer["words"].tolist() == [["坏", *[""] * 4], ["好", *[""] * 4]]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"format": 2}, "lexicon.json: is not of format 1"),
        ({"labels": ["good"]}, "lexicon.json: 1 labels, expected 2 to 100"),
        ({"labels": [str(number) for number in range(101)]}, "lexicon.json: 101 labels, expected 2 to 100"),
        ({"labels": ["good", "good"]}, "labels is no list of different strings"),
        ({"labels": "good"}, "labels is no list of different strings"),
        ({"analyzer": "char_wb"}, "analyzer is 'char_wb', expected word or char"),
        ({"terms": []}, "there is no term"),
        ({"terms": ["a", 1]}, "terms is no list of different strings"),
    ],
)
def test_a_folder_that_training_did_not_write_is_refused(facts: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path, fit("word"), [], **facts)
    with pytest.raises(FolderError, match=f"reviews.sentiment: .*{message}.*; train the model again") as refused:
        spec_of(SentimentModel(), folder)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("idf"), "holds coefficients .*, expected .*idf torch.float64 110"),
        (lambda tensors: tensors.update(idf=tensors["idf"][1:].clone()), "holds .*idf torch.float64 109, .*, expected"),
        (lambda tensors: tensors.update(idf=tensors["idf"].float()), "holds .*idf torch.float32 110, .*, expected"),
        (lambda tensors: tensors["idf"].fill_(float("nan")), "holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    regression = fit("word")
    tensors = regression.tensors()
    change(tensors)
    folder = write_folder(tmp_path, MODEL, (FILE, regression.lexicon(()).plain()), (WEIGHTS, tensors))
    with pytest.raises(ExportFailed, match=f"build raised FolderError: .*weights.safetensors: {message}"):
        export(SentimentModel(), folder, tmp_path / "store")


@pytest.mark.parametrize("name", [FILE, WEIGHTS, "examples.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, fit("word"), [])
    (folder.files / name).unlink()
    with pytest.raises((FolderError, ExportFailed), match=name):
        export(SentimentModel(), folder, tmp_path / "store")
