"""pricing.linear: converged training, its signature, and an import without build tools."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import mercato_pricing
from mercato_plugin import Model, Tensor
from mercato_pricing.line import build
from mercato_training import TrainingError

CONTEXT = SimpleNamespace(files=None, version=None, settings=None, save=None, save_estimator=None)


@pytest.fixture(scope="module")
def model() -> Model:
    return mercato_pricing.LinearPricing()


@pytest.fixture(scope="module")
def line() -> Any:
    return build(CONTEXT)


def test_four_items_cost_eight(line: Any) -> None:
    assert line(torch.tensor([[4.0]])).item() == pytest.approx(8.0, abs=0.01)


def test_training_found_the_line_itself(line: Any) -> None:
    assert line.weight.item() == pytest.approx(2.0, abs=1e-3)
    assert line.bias.item() == pytest.approx(0.0, abs=1e-3)


def test_training_is_repeatable(line: Any) -> None:
    again = build(CONTEXT)
    assert torch.equal(again.weight, line.weight) and torch.equal(again.bias, line.bias)


def test_training_that_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)
    with pytest.raises(RuntimeError, match="pricing.linear: mean squared error .* expected below"):
        build(CONTEXT)


def test_signature(model: Model) -> None:
    x, y = model.spec.inputs["x"], model.spec.outputs["y"]
    assert isinstance(x, Tensor) and isinstance(y, Tensor)
    assert (x.dtype, x.axes, x.finite) == ("float32", ("batch", 1), True)
    assert (y.dtype, y.axes) == ("float32", ("batch", 1))
    assert model.spec.name == "pricing.linear"


def test_examples_are_rows_of_one_number(model: Model) -> None:
    examples = list(model.examples(CONTEXT))
    assert examples
    assert all(len(row) == 1 for example in examples for row in example.inputs["x"])


def test_import_brings_no_build_tool() -> None:
    code = "import sys, mercato_pricing; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"mercato_pricing", "numpy"} <= set(done.stdout.split())
    assert not {"torch", "sklearn", "onnx", "skl2onnx", "safetensors"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (1e40, 1, "column 'x', row 2: got 1e+40, expected a number from -1e+30 to 1e+30; divide the column"),
        (1, 1e31, "column 'y', row 2: got 1e+31"),
        (1e-20, 1e20, "pricing.linear: the line y = "),
    ],
)
def test_numbers_beyond_float32_are_refused(trained: Any, tmp_path: Path, x: float, y: float, says: str) -> None:
    (tmp_path / "prices.csv").write_text("x,y\n" + "".join(f"{x * row},{y * row}\n" for row in range(60)))
    with pytest.raises(TrainingError) as refused:
        trained("pricing.linear", tmp_path)
    assert says in str(refused.value)
