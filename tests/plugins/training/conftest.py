"""Tables on disk for the tests of training, and a training in this process."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mercato_training import Data, Group, Job, Quiet, Trained, train

WriteCsv = Callable[..., Path]
Run = Callable[..., Trained]


@pytest.fixture
def csv(tmp_path: Path) -> WriteCsv:
    """Writes a CSV file of columns, values as they are printed."""

    def write(name: str = "table.csv", encoding: str = "utf-8", **columns: Sequence[Any]) -> Path:
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding=encoding)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def line_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows of y = 3 x + 5 and noise of 0.1."""
    random = np.random.default_rng(3)
    x = random.uniform(-4, 6, 300)
    y = 3 * x + 5 + random.normal(0, 0.1, 300)
    path = tmp_path_factory.mktemp("line") / "prices.csv"
    path.write_text("x,y\n" + "".join(f"{a!r},{b!r}\n" for a, b in zip(x.tolist(), y.tolist(), strict=True)))
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    """Trains in this process, into a folder of the test's own."""

    def run(model: str, data: Path, given: Mapping[str, str] | None = None, **job: Any) -> Trained:
        asked = Job(model, data, **{"models_dir": tmp_path / "models", "device": "cpu", **job}, given=given or {})
        done = train(asked, Group(), Quiet())
        assert done is not None
        return done

    return run


def data(path: Path, **more: Any) -> Data:
    """Data of a file, with pytest's own names out of the way."""
    return Data(path, **more)
