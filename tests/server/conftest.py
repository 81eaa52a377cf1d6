"""Servers of a test's own, beside the one that the whole run shares."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.server.running import Running, environment

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server of the test's own: `start(store, *flags, plugins=..., listen=..., **environment)`."""
    started: list[Running] = []

    def run(store: Path, *flags: str, plugins: tuple[str, ...] = ("mercato-pricing",), **more: str) -> Running:
        folder = tmp_path / f"server{len(started)}"
        listen = more.pop("listen", "127.0.0.1:0")
        started.append(Running(store, folder, environment(folder / "home", plugins, **more), *flags, listen=listen))
        return started[-1]

    yield run
    for running in started:
        running.kill()
