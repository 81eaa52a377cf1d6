"""reviews.intent: a head on a frozen encoder, exact in what it explains, certified, and refused on another encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.plugins.reviews.corpus import STRANGE
from tests.plugins.reviews.served import Served, export, serve, spec_of, write_folder
from tests.plugins.semantic.encoders import edit_json, write_bert, write_roberta

from mercato_plugin import Example, FolderError, Label, ModelFolder
from mercato_reviews import IntentModel, IntentSettings
from mercato_reviews.encoding import encoder_hash, encoder_of, facts_of
from mercato_reviews.head import FILE, MODEL, WEIGHTS, EncoderFacts, Head, read_head
from mercato_reviews.intent_fit import Reader
from mercato_reviews.intent_network import IntentNetwork, token_states
from mercato_server.errors import ExportFailed

LABELS = ("退货", "refund", "其他")
TEXTS = ["红色跑鞋", "不锈钢水壶 red shoes", "red shoe", "", "!?", "👟", "鞋" * 60, *STRANGE[:20]]


def weights_of(settings: IntentSettings, labels: int = len(LABELS)) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"weight": torch.randn(labels, encoder_of(settings)[1].hidden), "bias": torch.randn(labels)}


def write(models_dir: Path, settings: IntentSettings, **facts: Any) -> ModelFolder:
    """A folder with a random head, and the answers of its network in float64."""
    folder, config = encoder_of(settings)
    head, weights = Head(LABELS, facts_of(folder, config), ("zh",)), weights_of(settings)
    reader = Reader.of(folder, config, torch.device("cpu"))
    answers = reader.answers(IntentNetwork(reader.encoder, **weights), head, TEXTS)
    assert 0 < answers.is_clear.sum() < len(TEXTS)
    clear = [text for text, is_clear in zip(TEXTS, answers.is_clear, strict=True) if is_clear]
    examples = [Example({"text": clear}, outputs={n: v[answers.is_clear] for n, v in answers.outputs.items()})]
    return write_folder(models_dir, MODEL, (FILE, {**head.plain(), **facts}), (WEIGHTS, weights), examples)


@pytest.fixture(scope="module", params=["mean", "cls"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> IntentSettings:
    folder = write_bert(tmp_path_factory.mktemp("encoders") / request.param)
    edit_json(folder / "1_Pooling" / "config.json", pooling_mode=request.param)
    return IntentSettings(folder, "zh")


@pytest.fixture(scope="module")
def served(settings: IntentSettings, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("intent")
    return serve(IntentModel(), write(folder, settings), folder / "store", settings)


def test_the_certificate_holds_the_answers_against_training(served: Served) -> None:
    certificate = served.artifact.certificate
    assert (certificate.kind, certificate.passed, certificate.opset) == ("source", True, 24)
    assert certificate.checks == ("batch", "examples", "padding", "parity", "repeat")
    assert served.spec.outputs.keys() <= {error.output for error in certificate.errors}


def test_words_rest_and_bias_add_up_to_the_logit(served: Served, settings: IntentSettings) -> None:
    answer = served.answer(TEXTS)
    whole = answer["weights"].sum(axis=1) + answer["rest"] + answer["bias"]
    np.testing.assert_allclose(whole, answer["logit"], rtol=0, atol=1e-5)
    folder, config = encoder_of(settings)
    reader, weights = Reader.of(folder, config, torch.device("cpu")), weights_of(settings)
    logits = torch.nn.functional.linear(reader.vectors(reader.tokens(TEXTS)), **weights)
    np.testing.assert_allclose(answer["logit"], logits.max(dim=1).values, rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], logits.softmax(dim=1), rtol=0, atol=1e-5)
    assert answer["label"].tolist() == logits.argmax(dim=1).tolist()


def test_each_word_weighs_what_its_tokens_add(served: Served, settings: IntentSettings) -> None:
    """From the states alone: red and shoe are one token each, and shoes are two."""
    folder, config = encoder_of(settings)
    reader, weights = Reader.of(folder, config, torch.device("cpu")), weights_of(settings)
    (tokens,) = reader.tokens(["red 鞋 shoes"])
    states = token_states(reader.encoder, tokens[None], torch.tensor([len(tokens)]))[0]
    answer = served.answer(["red 鞋 shoes"])
    own = states @ weights["weight"][int(answer["label"][0])] / states.sum(dim=0).norm()
    expected = {"red": own[1], "鞋": own[2], "shoes": own[3] + own[4]}
    weighed = dict(zip(answer["words"][0], answer["weights"][0], strict=True))
    assert weighed == {**{word: pytest.approx(float(weight), abs=1e-5) for word, weight in expected.items()}, "": 0.0}
    bias = weights["bias"][int(answer["label"][0])] + own[0] + own[5]
    assert answer["bias"][0] == pytest.approx(float(bias), abs=1e-5)


def test_a_text_without_a_word_has_the_bias_alone(served: Served) -> None:
    answer = served.answer([""])
    assert answer["words"].tolist() == [[""] * 5]
    assert answer["rest"][0] == 0.0
    assert answer["logit"][0] == pytest.approx(answer["bias"][0], abs=1e-5)


def test_what_is_personal_does_not_count(served: Served) -> None:
    answer = served.answer(["红色 a@b.com", "红色 jane.doe@mail.org"])
    for name in served.spec.outputs:
        assert answer[name][0].tolist() == answer[name][1].tolist()


def test_what_exceeds_the_encoder_is_cut_and_told(served: Served) -> None:
    assert served.result(["鞋" * 38, "鞋" * 39]).truncated == {"text": {1}}


def test_the_specification_follows_the_folder(served: Served) -> None:
    label, ids = served.spec.outputs["label"], served.spec.graphs["model"].inputs["input_ids"]
    assert isinstance(label, Label) and label.names == LABELS
    assert (ids.high, ids.pad, served.spec.graphs["model"].inputs["lengths"].high) == (18, 0, 40)
    assert served.spec.languages == ("zh",)


def test_a_text_of_another_family_of_tokenizers(tmp_path: Path) -> None:
    settings = IntentSettings(write_roberta(tmp_path / "encoder"))
    served = serve(IntentModel(), write(tmp_path / "models", settings), tmp_path / "store", settings)
    assert served.artifact.certificate.passed
    assert set(served.answer(["红色跑鞋"])["words"][0]) == {*"红色跑鞋", ""}


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    trained, other = (IntentSettings(write_bert(tmp_path / name)) for name in ("trained", "other"))
    folder = write(tmp_path / "models", trained)
    edit_json(tmp_path / "other" / "config.json", layer_norm_eps=1e-5)
    with pytest.raises(ExportFailed, match="was trained on [0-9a-f]{12}; set encoder to that one, or train") as refused:
        export(IntentModel(), folder, tmp_path / "store", other)
    assert str(tmp_path) not in str(refused.value)


def test_the_hash_covers_all_that_decides_a_state(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    known = {encoder_hash(*encoder_of(IntentSettings(folder)))}
    changes: list[Callable[[], object]] = [
        lambda: edit_json(folder / "config.json", layer_norm_eps=1e-5),
        lambda: edit_json(folder / "sentence_bert_config.json", max_seq_length=16),
        lambda: edit_json(folder / "tokenizer.json", version="1.0 "),
        lambda: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + b" "),
    ]
    for change in changes:
        change()
        known.add(encoder_hash(*encoder_of(IntentSettings(folder))))
    assert len(known) == 5
    edit_json(folder / "1_Pooling" / "config.json", pooling_mode="cls")
    assert encoder_hash(*encoder_of(IntentSettings(folder))) in known


FACTS = EncoderFacts("0" * 64, vocab=10, pad=0, max_tokens=8)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"labels": ["退货"]}, "head.json: 1 labels, expected 2 to 100"),
        ({"encoder": None}, "head.json: the encoder is None, expected sha256, vocab, pad and max_tokens"),
        ({"encoder": {"sha256": "0", "vocab": 10, "pad": 10, "max_tokens": 8}}, "the encoder is"),
        ({"encoder": {"sha256": "0", "vocab": 10, "pad": 0, "max_tokens": 0}}, "the encoder is"),
        ({"encoder": {"vocab": 10, "pad": 0, "max_tokens": 8}}, "the encoder is"),
        ({"languages": None}, "languages is no list of different strings"),
    ],
)
def test_a_folder_that_training_did_not_write_is_refused(facts: dict[str, Any], message: str, tmp_path: Path) -> None:
    head = {**Head(LABELS, FACTS).plain(), **facts}
    folder = write_folder(tmp_path, MODEL, (FILE, head), (WEIGHTS, {"bias": torch.zeros(3)}))
    with pytest.raises(FolderError, match=f"reviews.intent: .*{message}.*; train the model again"):
        spec_of(IntentModel(), folder, IntentSettings())


def test_a_folder_reads_back_as_it_was_written(tmp_path: Path) -> None:
    head = Head(LABELS, FACTS, ("zh",))
    folder = write_folder(tmp_path, MODEL, (FILE, head.plain()), (WEIGHTS, {"bias": torch.zeros(3)}))
    assert read_head(folder.files / FILE) == head


def test_a_head_of_another_size_is_refused(settings: IntentSettings, tmp_path: Path) -> None:
    head = Head(LABELS, facts_of(*encoder_of(settings)))
    folder = write_folder(tmp_path, MODEL, (FILE, head.plain()), (WEIGHTS, weights_of(settings, labels=2)))
    with pytest.raises(ExportFailed, match="head.safetensors: holds bias torch.float32 2, .*, expected bias torch"):
        export(IntentModel(), folder, tmp_path / "store", settings)
