"""Training on tables and folders of pictures, from scratch, from given weights and with pruning; what is refused."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.plugins.vision.drawn import stored

from mercato_plugin.examples import read_examples
from mercato_training import Data, DataError, Group, Job, Quiet, Trained, TrainingError, train
from mercato_vision.building import load_network
from mercato_vision.collection import DIGEST, read_collection
from mercato_vision.facts import FILE, read_facts
from mercato_vision.network import ResNet18
from mercato_vision.pictures import decode

MODEL = "vision.category"
COLOURS = {"red": (200, 60, 50), "blue": (50, 60, 200)}


class Heard(Quiet):
    """Keeps what people are told, and ends the training after so many steps of `fit`."""

    def __init__(self, ends_after: int = 0) -> None:
        self.said: list[str] = []
        self._left = ends_after

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, title: str, done: int, total: int, note: str = "") -> None:
        self._left -= title.startswith("fit")
        if self._left == 0 and title.startswith("fit"):
            raise KeyboardInterrupt


def write_pictures(folder: Path, rows: int = 40) -> Path:
    """products.csv and its pictures: plain squares of one colour with noise; the labels are the colours."""
    random = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    with (folder / "products.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "category", "price"))
        for number in range(rows):
            name, colour = list(COLOURS.items())[number % 2]
            noise = random.normal(0, 25, (24, 32, 3))
            picture = Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8))
            picture.save(folder / "images" / f"1381234{number:04}.png")
            writer.writerow((f"images/1381234{number:04}.png", name, 1))
    return folder


def run(data: Path, models: Path, report: Quiet | None = None, *, resumes: bool = False, **given: str) -> Trained:
    given = {"size": "40", "batch_rows": "8", **given}
    job = Job(MODEL, data, models, given=given, epochs=2, device="cpu", resumes=resumes)
    trained = train(job, Group(), report or Quiet())
    assert trained is not None
    return trained


def tensors_of(trained: Trained) -> dict[str, torch.Tensor]:
    return load_network(trained.folder.files).state_dict()


def weights_size(trained: Trained) -> int:
    return sum(entry.nbytes for entry in trained.folder.entries if entry.name.endswith(".safetensors"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def scratch(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(shop, tmp_path_factory.mktemp("scratch"))


def test_a_folder_says_what_was_learned(scratch: Trained) -> None:
    metrics, made = scratch.folder.metrics, scratch.folder.made
    assert metrics["logistic_accuracy"] > metrics["baseline_accuracy"]
    assert {"accuracy", "f1", "recall.red", "logistic_f1"} <= metrics.keys()
    assert not {"accuracy_before", "ms"} & metrics.keys()
    facts = read_facts(scratch.folder.files / FILE)
    assert (facts.labels, facts.size, facts.inner) == (("blue", "red"), 40, ResNet18(2).inner)
    assert made["data"]["products"]["rows"] == 40 and made["options"]["weights"] is None
    assert scratch.evaluation.confusion is not None


def test_recorded_answers_are_those_of_the_network(scratch: Trained) -> None:
    network = load_network(scratch.folder.files)
    for example in read_examples(scratch.folder.files / "examples.json"):
        pixels = torch.from_numpy(np.stack([decode(data, 40) for data in example.inputs["image"]]))
        with torch.no_grad():
            shares = network(pixels).softmax(dim=1)
        outputs: Any = example.outputs
        torch.testing.assert_close(torch.tensor(outputs["probability"]), shares.max(dim=1).values, rtol=1e-4, atol=1e-5)


def test_a_training_that_was_ended_goes_on_as_if_it_was_not(scratch: Trained, shop: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(shop, tmp_path, Heard(ends_after=1))
    resumed = run(shop, tmp_path, heard := Heard(), resumes=True)
    assert "resumed after epoch 1" in heard.said
    expected = tensors_of(scratch)
    assert all(torch.equal(value, expected[name]) for name, value in tensors_of(resumed).items())


def test_weights_are_fitted_head_first_and_pruned(scratch: Trained, shop: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_file(ResNet18(1000).state_dict(), tmp_path / "resnet18.safetensors")
    heard = Heard()
    trained = run(shop, tmp_path / "models", heard, weights=str(tmp_path / "resnet18.safetensors"), prune="0.5")
    assert "weights of resnet18.safetensors, with a fresh last layer" in heard.said
    assert any(said.startswith("pruned: accuracy ") and "M parameters" in said for said in heard.said)
    notes, metrics = trained.folder.made["notes"], trained.folder.metrics
    assert notes.keys() >= {"fit_epochs", "fit_2_epochs", "fit_3_epochs"}
    assert trained.folder.made["options"]["weights"] == "resnet18.safetensors"
    assert read_facts(trained.folder.files / FILE).inner == (32, 32, 64, 64, 128, 128, 256, 256)
    assert all(metrics[name] < 0.6 * metrics[f"{name}_before"] for name in ("parameters", "bytes"))
    assert {"accuracy_before", "accuracy_unfitted", "ms_before", "ms"} <= metrics.keys()
    assert weights_size(trained) < 0.6 * weights_size(scratch)


def test_weights_that_do_not_fit_are_refused(shop: Path, tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "small.safetensors")
    with pytest.raises(TrainingError, match="--set weights: small.safetensors: tensor 'conv1.weight' has shape 1, exp"):
        run(shop, tmp_path / "models", weights=str(tmp_path / "small.safetensors"))


def test_damaged_and_missing_pictures_are_left_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "shop")
    images = sorted((folder / "images").iterdir())
    images[0].unlink()
    images[1].write_bytes(b"")
    for image in images[2:12]:
        image.write_bytes(image.read_bytes()[:200])
    trained = run(folder, tmp_path / "models", heard := Heard())
    assert trained.folder.made["data"]["products"]["dropped"] == {"no picture": 2}
    assert trained.folder.made["data"]["products"]["rows"] == 38
    told = [said.split(":")[1].split()[0] for said in heard.said if "pictures are damaged and left out" in said]
    assert sum(map(int, told)) == 10


def test_equal_pictures_stand_on_one_side(tmp_path: Path) -> None:
    for label in COLOURS:
        (tmp_path / label).mkdir()
        for number in range(60):
            (tmp_path / label / f"{number}.png").write_bytes(stored(Image.new("RGB", (8, 8), (number % 20, 0, 0))))
    data = Data(tmp_path)
    parts = data.parts(read_collection(data), by=DIGEST)
    digests = [set(part[DIGEST].tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, digests)) == len(set.union(*digests)) == 20
    assert data.digests["images"] and data.tables["images"].rows == 120


@pytest.mark.parametrize("path", ["/etc/hostname", "../other.png", "images/../../x.png"])
def test_a_path_outside_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(f"image,category\n{path},a\nb.png,b\n")
    with pytest.raises(DataError, match="column 'image' holds a path that is not below the folder of the table"):
        read_collection(Data(tmp_path / "mine.csv"))


def test_a_table_without_its_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("image,category\na.png,a\nb.png,b\n")
    with pytest.raises(DataError, match="none of 2 pictures is a file of 1 to 8388608 bytes"):
        read_collection(Data(tmp_path / "mine.csv"))


def test_a_size_that_no_batch_norm_takes_is_refused(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--set size: got 32, expected 40 to 512"):
        run(shop, tmp_path / "models", size="32")
