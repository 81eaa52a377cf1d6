"""The threads of sessions: a pool of its own for each, or one pool for all of a process."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.server.runtime.fresh import fresh
from tests.server.runtime.made import double

from mercato_server.runtime.session import open_session, share_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "double.onnx"
    onnx.save(double(), str(path))
    return path


def test_sessions_that_share_a_pool_add_no_threads(graph: Path) -> None:
    assert fresh(opened, graph, 3) == [[2.0, 2.0], [2, 2, 2, 2]]


def test_sessions_with_pools_of_their_own_add_threads_each(graph: Path) -> None:
    assert fresh(opened, graph, 0) == [[2.0, 2.0], [2, 4, 6, 8]]


def opened(path: str, shared: str) -> list[Any]:
    """What the last of four sessions gives, and how many threads there were more after each."""
    before, sessions, counts = _threads(), [], []
    if int(shared):
        share_threads(int(shared))
    for _ in range(4):
        sessions.append(open_session(Path(path), threads=3))
        counts.append(_threads() - before)
    return [sessions[-1].run({"x": np.ones((1, 2), np.float32)})["y"][0].tolist(), counts]


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
