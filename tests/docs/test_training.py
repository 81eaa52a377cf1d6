"""Shows that the plugin of the page on training trains, serves, and scores the same when it is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.server.running import Running

from mercato_client import Client
from mercato_training import Data, EvaluateContext, Trained
from mercato_training.finding import find


def test_the_page_s_model_trains_and_is_evaluated_alike_when_it_is_served(
    site: Path, notebook: Path, delays: Trained, trained: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    evaluate = find("shipping.delay").method("evaluate")
    with Client(trained.address) as client:
        version = client.model("shipping.delay").choose()

        def predict(inputs: dict[str, Any]) -> Any:
            return client.predict("shipping.delay", inputs)

        context = EvaluateContext(delays.folder.files, 1, None)
        evaluated = evaluate(Data(notebook / "parcels.csv"), predict, context)

    metrics = delays.folder.metrics
    assert metrics["mse"] < 0.2 * metrics["baseline_mse"]
    assert evaluated.metrics["baseline_mse"] == metrics["baseline_mse"]
    assert evaluated.metrics["mse"] == pytest.approx(metrics["mse"], rel=1e-2)
    assert version is not None and version.certificate is not None and version.certificate.passed
