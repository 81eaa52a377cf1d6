"""Settings files against the command: a bad one is a refusal in one line, never a server that waits or a traceback."""

import subprocess
from pathlib import Path

import pytest
from tests.server.bad.files_settings import FILE, ROWS, Row
from tests.server.conftest import Start
from tests.server.running import MERCATO, environment


@pytest.mark.parametrize("row", [row for row in ROWS if row.says], ids=lambda row: row.name)
def test_a_bad_settings_file_is_refused(tmp_path: Path, row: Row) -> None:
    row.make(tmp_path / FILE)
    env = environment(tmp_path / "home", (), MERCATO_CONFIG=str(tmp_path / FILE))
    done = subprocess.run(
        [MERCATO, "serve", "--store", tmp_path / "store", "--listen", "127.0.0.1:0"],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith("mercato serve: ") and row.says in done.stderr
    assert "Traceback" not in done.stderr and str(tmp_path) not in done.stderr
    assert len(done.stderr) < 1000


@pytest.mark.parametrize("row", [row for row in ROWS if not row.says], ids=lambda row: row.name)
def test_a_good_settings_file_is_taken(start: Start, store: Path, tmp_path: Path, row: Row) -> None:
    row.make(tmp_path / FILE)
    running = start(store, MERCATO_CONFIG=str(tmp_path / FILE))

    assert [item["state"] for item in running.ready()["models"]] == ["AVAILABLE"]
