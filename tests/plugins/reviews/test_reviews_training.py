"""Training both models on small files, and judging what is served from their folders."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugins.reviews.served import Served, serve
from tests.plugins.semantic.encoders import write_bert

from mercato_plugin.examples import read_examples
from mercato_reviews import IntentModel, IntentSettings, SentimentModel
from mercato_reviews.intent_fit import some_per_label
from mercato_reviews.intent_training import evaluate as evaluate_intent
from mercato_reviews.known_labels import tell_unknown_labels
from mercato_reviews.lexicon import read_lexicon
from mercato_reviews.sentiment_training import evaluate as evaluate_sentiment
from mercato_training import EvaluateContext, Evaluation, Group, Job, Quiet, Report, Trained, TrainingError, train

ENGLISH = (
    ("shoes", "kettle", "laptop bag", "mug", "watch"),
    ("for work", "as a present", "last week", "again", "online"),
)
CHINESE = (("鞋子", "水壶", "电脑包", "杯子", "手表"), ("上班用", "送人的", "上周买的", "第二次买", "网上买的"))
SAID = {
    "en": {
        "good": ("love the {}", "great {}", "very happy with the {}"),
        "bad": ("broken {}", "hate the {}", "poor {}"),
    },
    "zh": {"好评": ("很喜欢{}", "{}质量很好", "{}很满意"), "差评": ("{}坏了", "讨厌{}", "{}质量太差")},
}
WANTED = {"refund": ("退款 {}", "红色 {} 退"), "delivery": ("运动 {} 呢", "深红 {} red")}


def rows_of(language: str, said: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    things, ends = {"en": ENGLISH, "zh": CHINESE}[language]
    pairs = product(said.items(), things, ends)
    return [(f"{say.format(thing)}, {end}", label) for (label, says), thing, end in pairs for say in says]


def write_csv(path: Path, label: str, rows: Sequence[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", label), *rows])
    return path


class Heard(Quiet):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def run(model: str, data: Path, models: Path, report: Report | None = None, **given: str) -> Trained:
    trained = train(Job(model, data, models, given=given, epochs=30, device="cpu"), Group(), report or Quiet())
    assert trained is not None
    return trained


def judged(
    evaluate: Callable[..., Evaluation], served: Served, trained: Trained, data: Path, settings: Any = None
) -> Evaluation:
    """What the served version scores, asked as a client asks."""
    label: Any = served.spec.outputs["label"]
    labels = np.array(label.names, object)

    def predict(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"label": labels[served.answer(inputs["text"].tolist())["label"]]}

    context = EvaluateContext(trained.folder.files, trained.folder.version, settings)
    return evaluate(Job("", data, Path()).read(), predict, context)


@pytest.mark.parametrize(("language", "analyzer"), [("en", "word"), ("zh", "char")])
def test_sentiment_is_learned_and_served(language: str, analyzer: str, tmp_path: Path) -> None:
    rows = [*rows_of(language, SAID[language]), ("call 13812345678 ok", next(iter(SAID[language])))]
    data = write_csv(tmp_path / "reviews.csv", "sentiment", rows)
    trained = run("reviews.sentiment", data, tmp_path / "models", language=language)
    lexicon = read_lexicon(trained.folder.files / "lexicon.json")
    assert (lexicon.analyzer, lexicon.languages) == (analyzer, (language,))
    assert not any("138" in term for term in lexicon.terms)
    assert trained.evaluation.metrics["accuracy"] > 0.95 > 0.6 > trained.evaluation.metrics["baseline_accuracy"]
    served = serve(SentimentModel(), trained.folder, tmp_path / "store")
    assert "examples" in served.artifact.certificate.checks
    assert judged(evaluate_sentiment, served, trained, data).metrics == trained.evaluation.metrics


def test_an_intent_is_learned_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = IntentSettings(write_bert(tmp_path / "encoder"), "zh")
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_REVIEWS__ENCODER", str(settings.encoder))
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_REVIEWS__LANGUAGE", "zh")
    data = write_csv(tmp_path / "messages.csv", "intent", rows_of("zh", WANTED))
    trained = run("reviews.intent", data, tmp_path / "models", heard := Heard(), learning_rate="0.5")
    assert trained.folder.made["notes"]["unknown_tokens"] > 0.1
    assert any("unknown to the encoder: set encoder to one that knows the language" in text for text in heard.said)
    assert trained.evaluation.metrics["accuracy"] > 0.8
    served = serve(IntentModel(), trained.folder, tmp_path / "store", settings)
    assert served.spec.languages == ("zh",)
    assert served.spec.outputs.keys() <= {error.output for error in served.artifact.certificate.errors}
    assert judged(evaluate_intent, served, trained, data, settings).metrics == trained.evaluation.metrics
    recorded = read_examples(trained.folder.files / "examples.json")
    assert {label for example in recorded for label in (example.outputs or {})["label"]} <= {"refund", "delivery"}
    few = run("reviews.intent", data, tmp_path / "models", per_class="4")
    assert (few.folder.version, few.folder.made["notes"]["examples"]) == (2, 8)


def test_evaluation_has_the_baseline_of_the_training(tmp_path: Path) -> None:
    good, bad = (rows_of("en", {label: SAID["en"][label]}) for label in ("good", "bad"))
    data = write_csv(tmp_path / "reviews.csv", "sentiment", [*good, *bad[:40]])
    trained = run("reviews.sentiment", data, tmp_path / "models")
    other = write_csv(tmp_path / "other.csv", "sentiment", [*good[:9], *bad])
    context = EvaluateContext(trained.folder.files, 1, None)
    whole = replace(Job("", other, Path()).read(), is_whole=True)
    judged = evaluate_sentiment(whole, lambda inputs: {"label": ["bad"] * len(inputs["text"])}, context)
    assert judged.metrics["baseline_accuracy"] == pytest.approx(9 / (9 + len(bad)))


def test_few_examples_are_among_more(tmp_path: Path) -> None:
    labels = np.array(["a", "b", "a", "c", "b", "a"] * 10, object)
    chosen = [set(some_per_label(labels, count, seed=7).tolist()) for count in (1, 4, 16, 0)]
    assert [len(rows) for rows in chosen] == [3, 12, 42, 60]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]


def test_too_many_labels_are_refused(tmp_path: Path) -> None:
    rows = [(f"text {number} of many", f"label {number}") for number in range(300)]
    data = write_csv(tmp_path / "reviews.csv", "sentiment", rows)
    with pytest.raises(TrainingError, match="column 'sentiment' has 300 labels in 300 rows, expected 2 to 100 diff"):
        run("reviews.sentiment", data, tmp_path / "models")


def test_texts_that_share_no_term_are_refused(tmp_path: Path) -> None:
    rows = [(f"word{number}", "ab"[number % 2]) for number in range(60)]
    data = write_csv(tmp_path / "reviews.csv", "sentiment", rows)
    with pytest.raises(TrainingError, match=r"no term stands in 2 of \d+ texts; bring more data or lower min_df"):
        run("reviews.sentiment", data, tmp_path / "models")


@pytest.mark.parametrize("language", ["notalang!!", "e", "en_GB", "en-"])
def test_a_language_that_is_no_tag_is_refused(tmp_path: Path, language: str) -> None:
    data = write_csv(tmp_path / "reviews.csv", "sentiment", rows_of("en", SAID["en"]))
    with pytest.raises(TrainingError, match="--set language: got .*, expected a BCP 47 tag, such as en or zh-Hans"):
        run("reviews.sentiment", data, tmp_path / "models", language=language)


def test_epochs_of_a_model_without_any_are_told(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "reviews.csv", "sentiment", rows_of("en", SAID["en"]))
    run("reviews.sentiment", data, tmp_path / "models", heard := Heard())
    assert "--epochs changes nothing: reviews.sentiment is fitted until it converges" in heard.said


@pytest.mark.parametrize(("model", "ident"), [("reviews.sentiment", "review_id"), ("reviews.intent", "message_id")])
def test_two_texts_of_one_id_are_refused(tmp_path: Path, model: str, ident: str) -> None:
    label = {"reviews.sentiment": "sentiment", "reviews.intent": "intent"}[model]
    (tmp_path / "data.csv").write_text(f"{ident},text,{label}\na,fine,good\nb,poor,bad\na,other,good\n")
    with pytest.raises(TrainingError, match=f"rows 1 and 3 have the same {ident} 'a' and different values"):
        run(model, tmp_path / "data.csv", tmp_path / "models")


def test_labels_that_a_model_does_not_know_are_told() -> None:
    heard = Heard()
    tell_unknown_labels(np.array(["good", "bad"], object), ("bad", "good"), heard)
    assert heard.said == []
    tell_unknown_labels(np.array(["1", "0", "good", "1"], object), ("bad", "good"), heard)
    expected = "3 of 4 held-out rows have labels that the model does not know: 0, 1; it knows bad, good"
    assert heard.said == [expected]
