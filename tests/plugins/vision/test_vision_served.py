"""Handwritten digits from training to answers: a folder of PNG files, a model folder, a real server, a client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.plugins.vision.drawn import oriented, stored, write_digits

from mercato_client import Client, InvalidInput
from mercato_training import EvaluateContext, Group, Job, Quiet, Trained, train
from mercato_training.served import served, server
from mercato_vision.training import evaluate

MODEL = "vision.category"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "digits", 500)


@pytest.fixture(scope="module")
def trained(digits: Path) -> Trained:
    given = {"size": "40", "mirror": "false", "learning_rate": "0.0005"}
    done = train(Job(MODEL, digits, digits.parent / "models", given, epochs=4, device="cpu"), Group(), Quiet())
    assert done is not None
    return done


@pytest.fixture(scope="module")
def client(trained: Trained, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERCATO_STORE", str(tmp_path_factory.mktemp("store")))
        with server(digits.parent / "models", {MODEL: [1]}, ["mercato-vision"]) as client:
            yield client


def test_digits_are_learned(trained: Trained) -> None:
    assert trained.evaluation.metrics["accuracy"] >= 0.9


def test_the_served_model_scores_what_the_trained_one_did(client: Client, trained: Trained, digits: Path) -> None:
    context = EvaluateContext(trained.folder.files, 1, None)
    found = evaluate(Job(MODEL, digits, Path()).read(), served(client, MODEL, 1, Quiet()).predict, context)
    assert found.metrics == {name: trained.evaluation.metrics[name] for name in found.metrics}


def test_the_certificate_holds_the_whole_way_against_training(client: Client) -> None:
    version: Any = client.model(MODEL).choose(1)
    assert version.state == "AVAILABLE"
    assert (version.certificate.kind, version.certificate.passed, version.certificate.opset) == ("source", True, 20)


def test_an_answer_has_the_five_best_labels(client: Client, digits: Path) -> None:
    files = [next((digits / f"{digit}").iterdir()).read_bytes() for digit in range(10)]
    answer = client.predict(MODEL, {"image": files})
    assert answer["labels"].shape == answer["probabilities"].shape == (10, 5)
    assert answer["label"].tolist() == answer["labels"][:, 0].tolist()
    assert answer["probability"].tolist() == answer["probabilities"][:, 0].tolist()
    assert (np.diff(answer["probabilities"], axis=1) <= 0).all() and (
        answer["probabilities"].sum(axis=1) <= 1.0001
    ).all()
    assert all(len(set(row)) == 5 for row in answer["labels"].tolist())
    for row, file in enumerate(files):
        alone = client.predict(MODEL, {"image": [file]})
        np.testing.assert_allclose(alone["probabilities"][0], answer["probabilities"][row], rtol=1e-4, atol=1e-6)


def test_a_picture_that_lies_on_its_side_is_read_upright(client: Client) -> None:
    upright, turned = (client.predict(MODEL, {"image": [oriented(number, "PNG")]}) for number in (1, 6))
    np.testing.assert_allclose(turned["probabilities"], upright["probabilities"], rtol=1e-4, atol=1e-6)


GOOD = stored(Image.new("RGB", (50, 50), "red"))
REFUSED = {
    "is not one of jpeg, png, webp": stored(Image.new("RGB", (9, 9)), "GIF"),
    "60000 x 60000": GOOD[:16] + (60_000).to_bytes(4, "big") * 2 + GOOD[24:],
    "is damaged, cut short, or no JPEG, PNG or WebP picture": GOOD[:60] + bytes(len(GOOD) - 72) + GOOD[-12:],
    "is a png file that is cut short": GOOD[:-20],
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_decoded_is_refused_by_its_field(why: str, client: Client) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.predict(MODEL, {"image": [REFUSED[why]]})
    assert "image" in str(refused.value)
    assert client.predict(MODEL, {"image": [GOOD]})["labels"].shape == (1, 5)
