"""Shows that `make fuzz` fuzzes: it executes more than its seeds, and fails where it does not."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; run `make fuzz`")


def session(runs: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--json", "--seed", "1", "--runs", str(runs)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@needs_atheris
def test_a_short_session_executes_more_than_the_seeds() -> None:
    ended = session(700)
    figures = json.loads(ended.stdout)
    assert (ended.returncode, figures["findings"]) == (0, []), ended.stderr
    assert figures["executions"] == 700 > figures["seeds"] and figures["edges"] > 0


@needs_atheris
@pytest.mark.parametrize("runs", [0, 100])
def test_a_session_that_executes_no_more_than_the_seeds_fails(runs: int) -> None:
    ended = session(runs)
    assert ended.returncode == 1
    assert "nothing was fuzzed" in ended.stderr
