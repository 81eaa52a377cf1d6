"""The memory of a process: what a load is measured to take, what a burst gives back, and the bound of a worker."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.server.runtime.fresh import fresh
from tests.server.runtime.made import double, table, wide, worker

from mercato_plugin import Model
from mercato_server.runtime import memory, shrinkage
from mercato_server.runtime.memory import Growth, held, limit_memory
from mercato_server.runtime.session import open_session
from mercato_server.runtime.shrinkage import BURST, CALM_RUNS, CALM_SECONDS, Shrinkage

MIB = 1024**2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sizes of a process are read from /proc")


def test_a_load_is_measured_to_take_what_its_weights_take(tmp_path: Path) -> None:
    onnx.save(table(64 * MIB // 4096), str(tmp_path / "table.onnx"))
    first, second = fresh(measure, tmp_path / "table.onnx")
    assert 64 * MIB <= second <= 66 * MIB
    assert 64 * MIB <= first <= 70 * MIB  # with what the first session of a process brings


def measure(path: str) -> list[int]:
    sessions, found = [], []
    for _ in range(2):
        growth = Growth()
        with growth.measured():
            sessions.append(open_session(Path(path)))
        with growth.measured():
            sessions[-1].run({"x": np.zeros(1, np.int64)})
        found.append(growth.nbytes)
    return found


def test_what_a_plugin_loads_is_part_of_its_models_bytes(tmp_path: Path) -> None:
    class Keeping(Model):
        def load(self, context: Any) -> None:
            self.kept = np.ones(32 * MIB, np.uint8)

    made = worker(tmp_path, Keeping, examples=[{"x": [[1.0, 2.0]]}])
    assert made.nbytes == 0
    made.load()
    made.warm()
    assert 32 * MIB <= made.nbytes <= 40 * MIB


def test_a_load_that_fails_lets_the_next_one_be_measured() -> None:
    assert fresh(measure_after_a_failure) >= 15 * MIB


def measure_after_a_failure() -> int:
    growth = Growth()
    with contextlib.suppress(SystemExit), growth.measured():
        raise SystemExit
    with growth.measured():
        kept = np.ones(16 * MIB, np.uint8)
    return growth.nbytes if len(kept) else 0


def test_nothing_is_measured_where_nothing_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    growth = Growth()
    with growth.measured():
        pass
    assert (held(), growth.nbytes) == (0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def due(sizes: list[int], seconds: float = 1.0) -> list[int]:
    """The runs that give memory back."""
    clock = Clock()
    found = Shrinkage(clock)
    runs = []
    for run, size in enumerate(sizes):
        clock.now += seconds
        runs += [run] if found.is_due(size) else []
    return runs


def test_memory_is_given_back_once_after_a_burst() -> None:
    assert due([1] * 3 + [100] + [1] * 500) == [2 * CALM_RUNS - 1]


def test_steady_traffic_of_any_size_gives_nothing_back() -> None:
    assert due([100] * 500) == []
    assert due([100, 1, 1, 1] * 125) == []
    assert due([BURST, *[1] * 500]) == []


def test_bursts_within_a_second_of_each_other_give_nothing_back() -> None:
    assert due(([100] + [1] * 99) * 50, seconds=CALM_SECONDS / 1000) == []


def test_traffic_that_falls_in_steps_gives_back_at_each() -> None:
    assert len(due([10_000] * 100 + [100] * 100 + [1] * 100)) == 2


def test_memory_is_near_its_base_again_after_a_burst(tmp_path: Path) -> None:
    onnx.save(wide(), str(tmp_path / "wide.onnx"))
    base, grown, back = fresh(burst, tmp_path / "wide.onnx")
    assert grown - base >= 100 * MIB
    assert back - base <= 16 * MIB


def burst(path: str) -> list[int]:
    """Bytes held before a run of 4096 rows, after it, and after as many runs of one row as it takes at most."""
    shrinkage.CALM_SECONDS = 0.0
    session = open_session(Path(path))
    row = np.ones((1, 4096), np.float32)
    session.run({"x": row})
    base = held()
    session.run({"x": np.ones((4096, 4096), np.float32)})
    grown = held()
    for _ in range(2 * CALM_RUNS):
        session.run({"x": row})
    return [base, grown, held()]


def test_the_bound_is_told_as_a_memory_error_and_leaves_room_for_sessions(tmp_path: Path) -> None:
    onnx.save(double(), str(tmp_path / "double.onnx"))
    assert fresh(bounded, 64 * MIB, tmp_path / "double.onnx") == [[2.0, 2.0], "MemoryError", 8 * MIB]


def bounded(nbytes: str, path: str) -> list[Any]:
    limit_memory(int(nbytes))
    found = open_session(Path(path), threads=2).run({"x": np.ones((1, 2), np.float32)})["y"][0].tolist()
    try:
        np.ones(int(nbytes), np.uint8)
        told = "nothing"
    except MemoryError:
        told = "MemoryError"
    return [found, told, len(np.ones(8 * MIB, np.uint8))]
