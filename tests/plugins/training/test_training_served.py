"""The server of an evaluation: its environment is the user's, without the settings of another server."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mercato_plugin import Model
from mercato_training import TrainingError
from mercato_training.finding import Trainable
from mercato_training.judging import targets
from mercato_training.served import _ready_port, environment

SETTINGS = """
listen = "0.0.0.0:443"
tls_cert = "cert.pem"
store = "/srv/store"
provider = "cpu"
[plugins."mercato-x"]
encoder = "/srv/encoder"
[models."a.b"]
gate = ["f1>=0.8"]
provider = "cuda"
cache_bytes = 4096
"""


def test_only_what_decides_how_a_model_is_built_and_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mercato.toml").write_text(SETTINGS)
    monkeypatch.setenv("MERCATO_CONFIG", str(tmp_path / "mercato.toml"))
    monkeypatch.setenv("MERCATO_STORE", "/other/store")
    monkeypatch.setenv("MERCATO_STRICT", "true")
    monkeypatch.setenv("MERCATO_PLUGINS__MERCATO_X__LANGUAGE", "zh")
    found = environment(tmp_path, {"a.b": [2, 3]}, ["mercato-x"])
    assert {name: value for name, value in found.items() if name.startswith("MERCATO_")} == {
        "MERCATO_STORE": "/other/store",
        "MERCATO_PROVIDER": "cpu",
        "MERCATO_PLUGINS": '{"mercato-x": {"encoder": "/srv/encoder"}}',
        "MERCATO_PLUGINS__MERCATO_X__LANGUAGE": "zh",
        "MERCATO_MODELS_DIR": str(tmp_path.resolve()),
        "MERCATO_MODELS": '{"a.b": {"provider": "cuda", "versions": [2, 3]}}',
        "MERCATO_PLUGINS_ALLOW": '["mercato-x"]',
    }


def test_settings_of_the_environment_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mercato.toml").write_text(SETTINGS)
    monkeypatch.setenv("MERCATO_CONFIG", str(tmp_path / "mercato.toml"))
    cases = {'{"a.b": {"threads": 2}}': {"threads": 2}, "{": {}, '{"a.b": 3}': {}}
    for given, kept in cases.items():
        monkeypatch.setenv("MERCATO_MODELS", given)
        assert json.loads(environment(tmp_path, {"a.b": [1]}, [])["MERCATO_MODELS"]) == {
            "a.b": {"versions": [1], **kept}
        }


def test_what_a_server_prints_beside_its_events_is_passed_over() -> None:
    lines = ["a plugin says hello", "[]", '{"event": "listening", "port": 8500}', '{"event": "ready"}']
    with subprocess.Popen(["printf", "%s\\n", *lines], stdout=subprocess.PIPE, text=True) as process:
        assert _ready_port(process) == 8500
    with (
        subprocess.Popen(["echo", "no"], stdout=subprocess.PIPE, text=True) as process,
        pytest.raises(TrainingError, match="the server of the evaluation ended with exit code 0 before it served"),
    ):
        _ready_port(process)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pricing.demand", "model 'pricing.demand' has no trained version in 'models'; train it: mercato train"),
        ("pricing.linear:2", "model 'pricing.linear' has no version '2'; it has 1"),
        ("pricing.linear:last", "model 'pricing.linear' has no version 'last'; it has 1"),
        ("pricing.linear:1", "model folder pricing.linear 1: manifest.json"),
    ],
)
def test_what_cannot_be_judged_is_told(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "models" / "pricing.linear" / "1").mkdir(parents=True)
    with pytest.raises(TrainingError) as refused:
        targets([name], tmp_path / "models")
    assert says in str(refused.value)


class Distant(Model):
    """A model whose training stands in a package that is not here."""

    train: Any = "no_such_package.training:train"


def test_a_build_extra_that_is_missing_is_told() -> None:
    found = Trainable("a.b", Distant(), "mercato-x", "1.0", None)
    with pytest.raises(TrainingError, match=r"no_such_package is not installed; install 'mercato-x\[build\]'"):
        found.method("train")
    with pytest.raises(TrainingError, match="model 'a.b' of mercato-x defines no evaluate"):
        found.method("evaluate")
