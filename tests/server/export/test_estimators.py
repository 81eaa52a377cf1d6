"""scikit-learn estimators, returned by `build` or saved by `ctx.save_estimator`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.server.export.conftest import Export

from mercato_plugin import BuildContext, Example, ModelSpec, Tensor
from mercato_server.errors import ExportFailed, ParityFailed
from mercato_server.runtime.session import open_session

FEATURES = np.random.default_rng(0).normal(1e4, 1e3, (60, 3))
PRICES = FEATURES @ [1.0, -2.0, 0.5] + 7
CLASSES = np.digitize(FEATURES[:, 0], [9_500, 10_500])

X = Tensor("float64", ("batch", 3), low=7e3, high=13e3)
COLUMN = Tensor("float64", ("batch", 1))
LABEL = Tensor("int64", ("batch",))
SHARES = Tensor("float64", ("batch", 3))


def spec(**outputs: Tensor) -> ModelSpec:
    return ModelSpec(name="shop.table", inputs={"x": X}, outputs=outputs)


def regression() -> Any:
    return LinearRegression().fit(FEATURES, PRICES)


def classifier() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(FEATURES, CLASSES)


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (regression, {"y": COLUMN}),
        (classifier, {"label": LABEL, "shares": SHARES}),
        (classifier, {"shares": SHARES}),
        (classifier, {"variable": LABEL}),
        (lambda: StandardScaler().fit(FEATURES), {"scaled": SHARES}),
    ],
)
def test_an_estimator_is_held_against_itself(
    export: Export, make: Callable[[], Any], outputs: dict[str, Tensor]
) -> None:
    artifact = export(spec(**outputs), lambda ctx: make())

    assert artifact.certificate.kind == "source"
    assert {error.output for error in artifact.certificate.errors} == set(outputs)
    assert {"scikit-learn", "skl2onnx"} <= artifact.tools.keys() and "torch" not in artifact.tools
    answer = open_session(artifact.graph("model")).run({"x": FEATURES[:2]})
    assert list(answer) == list(outputs)


def test_a_saved_estimator_is_held_against_what_it_recorded(export: Export) -> None:
    certificate = export(spec(y=COLUMN), lambda ctx: ctx.save_estimator(regression(), FEATURES)).certificate

    assert certificate.kind == "recorded"
    assert "recorded" in certificate.checks


def test_recorded_outputs_that_differ_are_refused(export: Export) -> None:
    def build(ctx: BuildContext) -> Any:
        path = ctx.save_estimator(regression(), FEATURES)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as kept:
            changed = {name: kept[name] + (name == "output.y") * 0.1 for name in kept.files}
        np.savez(path.with_suffix(".npz"), allow_pickle=False, **changed)
        return path

    with pytest.raises(ParityFailed, match="output 'y' fails check 'recorded'"):
        export(spec(y=COLUMN), build)


def test_answers_recorded_with_examples_are_compared_on_the_whole_way(export: Export) -> None:
    right = Example({"x": FEATURES[:2]}, outputs={"y": PRICES[:2, None]})
    wrong = Example({"x": FEATURES[:2]}, outputs={"y": PRICES[:2, None] + 1})

    assert "examples" in export(spec(y=COLUMN), lambda ctx: regression(), [right]).certificate.checks
    with pytest.raises(ParityFailed, match="output 'y' fails check 'examples'"):
        export(spec(y=COLUMN), lambda ctx: regression(), [right, wrong])


@pytest.mark.parametrize(
    ("make", "outputs", "told"),
    [
        (regression, {"y": LABEL}, "declared int64; the estimator gives"),
        (regression, {"y": Tensor("float64", ("batch",))}, r"the specification declares \(batch\)"),
        (classifier, {"shares": Tensor("float64", ("batch", 4))}, "declares"),
        (lambda: LinearRegression(), {"y": COLUMN}, "skl2onnx cannot convert LinearRegression"),
    ],
)
def test_an_estimator_that_is_not_what_was_declared_is_refused(
    export: Export, make: Callable[[], Any], outputs: dict[str, Tensor], told: str
) -> None:
    with pytest.raises((ExportFailed, ParityFailed), match=told):
        export(spec(**outputs), lambda ctx: make())


def test_a_forest_in_single_precision_is_certified(export: Export) -> None:
    single = Tensor("float32", ("batch", 3), low=7e3, high=13e3)
    forest = RandomForestRegressor(3, random_state=0).fit(FEATURES.astype(np.float32), PRICES)
    table = ModelSpec(
        name="shop.forest", inputs={"x": single}, outputs={"y": Tensor("float32", ("batch", 1))}, tolerance={"y": 1e-4}
    )

    assert export(table, lambda ctx: forest).certificate.passed
