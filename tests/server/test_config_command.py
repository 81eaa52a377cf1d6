"""`mercato config`: every value in force with its origin, and no secret with either."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.server.calls import PREDICT, Wire, failed, pricing
from tests.server.conftest import Start
from tests.server.gate import install
from tests.server.running import MERCATO, Running

from mercato_server.commands.limits import limits
from mercato_server.commands.schema import settings_schema
from mercato_server.config import Settings
from mercato_server.rpc.port import MAX_METADATA_BYTES

KEYED = """
from dataclasses import dataclass
from pathlib import Path

from mercato_plugin import Model, ModelSpec, Secret, Tensor, hookimpl, setting


@dataclass(frozen=True)
class Settings:
    api_key: Secret | None = setting(None, doc="key of the source", build=False)
    other_key: Secret = setting(Secret("hush-default"), doc="another", build=False)
    host: str = setting("shop.example", doc="where the source is")
    port: int = setting(443, doc="its port")
    folder: Path = setting(Path("data"), doc="a folder")
    keys: dict[str, Secret] = setting(None, doc="many", build=False)


class Keyed(Model):
    settings = Settings
    spec = ModelSpec(
        name="test.keyed", inputs={"x": Tensor("float32", ("batch", 1))}, outputs={"y": Tensor("float32", ("batch", 1))}
    )


@hookimpl
def mercato_models():
    return [Keyed()]
"""

FILE = """
listen = "127.0.0.1:7000"
plugins_allow = ["mercato-keyed"]

[models."test.keyed"]
labels = { stable = 1, canary = 2 }
threads = 3

[plugins."Mercato_Keyed"]
port = 8443
api_key = { file = "key.txt" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a settings file and an installed plugin."""
    (tmp_path / "mercato.toml").write_text(FILE)
    (tmp_path / "key.txt").write_text("hush-file")
    install(tmp_path / "site", "mercato-keyed", KEYED)
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder / "site"), **environment}
    return subprocess.run(
        [str(MERCATO), "config", *arguments], capture_output=True, text=True, env=env, cwd=folder, check=False
    )


def shown(folder: Path, *arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
    done = run(folder, "show", "--json", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return {row.pop("name"): row for row in json.loads(done.stdout)}


def test_every_setting_has_its_value_and_where_that_comes_from(folder: Path) -> None:
    models = json.dumps({"test.keyed": {"labels": {"canary": 3}, "batch_rows": 8}})
    found = shown(folder, MERCATO_THREADS="2", MERCATO_MODELS=models)

    default, file = {"origin": "default", "source": ""}, {"origin": "file", "source": "mercato.toml"}
    of_models = {"origin": "environment", "source": "MERCATO_MODELS"}
    assert set(Settings.model_fields) - {"models", "plugins"} <= set(found)
    assert found["provider"] == {"value": "auto", **default}
    assert found["listen"] == {"value": "127.0.0.1:7000", **file}
    assert found["threads"] == {"value": 2, "origin": "environment", "source": "MERCATO_THREADS"}
    assert {name: row for name, row in found.items() if name.startswith("models.")} == {
        'models."test.keyed".labels."stable"': {"value": 1, **file},
        'models."test.keyed".labels."canary"': {"value": 3, **of_models},
        'models."test.keyed".threads': {"value": 3, **file},
        'models."test.keyed".batch_rows': {"value": 8, **of_models},
    }


def test_settings_of_plugins_are_there_and_secrets_are_not(folder: Path) -> None:
    variable = "MERCATO_PLUGINS__MERCATO_KEYED__HOST"
    found = shown(folder, **{variable: "hush-environment"})

    default, file = {"origin": "default", "source": ""}, {"origin": "file", "source": "mercato.toml"}
    assert {name: row for name, row in found.items() if name.startswith("plugins.")} == {
        'plugins."mercato-keyed".api_key': {"value": "***", **file},
        'plugins."mercato-keyed".other_key': {"value": "***", **default},
        'plugins."mercato-keyed".host': {"value": "***", "origin": "environment", "source": variable},
        'plugins."mercato-keyed".port': {"value": 8443, **file},
        'plugins."mercato-keyed".folder': {"value": "data", **default},
        'plugins."mercato-keyed".keys': {"value": None, **default},
    }
    in_a_table = run(folder, "show", COLUMNS="200", **{variable: "hush-environment"}).stdout
    assert "environment MERCATO_PLUGINS__MERCATO_KEYED__HOST" in in_a_table
    assert "hush" not in in_a_table


def test_what_the_environment_says_of_plugins_as_json_is_hidden(folder: Path) -> None:
    found = shown(folder, MERCATO_PLUGINS=json.dumps({"mercato-keyed": {"host": "hush"}}))

    hidden = {"value": "***", "origin": "environment", "source": "MERCATO_PLUGINS"}
    assert found['plugins."mercato-keyed".host'] == hidden


def test_a_secret_written_where_it_is_refused_is_not_shown_either(folder: Path) -> None:
    (folder / "mercato.toml").write_text(
        '[plugins."mercato-keyed"]\napi_key = "hush"\n[plugins."not-there"]\na = "hush"\n'
    )
    done = run(folder, "show", "--json", MERCATO_PLUGINS_ALLOW="mercato-keyed")

    found = {row["name"]: row["value"] for row in json.loads(done.stdout) if row["name"].startswith("plugins.")}
    assert found == {'plugins."mercato-keyed".api_key': "***", 'plugins."not-there".a': "***"}
    assert "hush" not in done.stdout + done.stderr


def test_settings_that_cannot_be_read_are_one_line(folder: Path) -> None:
    done = run(folder, "show", MERCATO_THREADS="-1")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mercato config: threads: Input should be greater than or equal to 0\n"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_limits_are_those_in_force(folder: Path) -> None:
    (folder / "mercato.toml").write_text('max_requests = 7\n[models."test.keyed"]\nmax_requests = 3\n')
    found = shown(folder, "--limits")

    assert (found["requests in flight"]["value"], found["requests in flight"]["setting"]) == (7, "max_requests")
    mine = found["requests in flight of test.keyed"]
    assert (mine["value"], mine["setting"]) == (3, 'models."test.keyed".max_requests')
    assert "requests in flight" in run(folder, "show", "--limits").stdout


def test_a_setting_that_moves_a_limit_exists() -> None:
    named = {limit.setting for limit in limits(Settings.model_construct())} - {""}
    assert {name for name in named if "." not in name} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("size", "code"), [(7000, grpc.StatusCode.NOT_FOUND), (9000, grpc.StatusCode.RESOURCE_EXHAUSTED)]
)
def test_metadata_is_bounded_every_time(channel: grpc.Channel, size: int, code: grpc.StatusCode) -> None:
    """grpcio refuses at random between its two limits, unless they are the same."""
    assert size < MAX_METADATA_BYTES or code is grpc.StatusCode.RESOURCE_EXHAUSTED
    method: Any = channel.unary_unary(PREDICT)  # the stubs of grpc know no call without serialisers
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as caught:
            method(b"", metadata=[("x-long", "a" * size)], timeout=10)
        assert failed(caught.value).code is code


# --- schema -----------------------------------------------------------------------------------------------------------


def tables(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *schema["definitions"].values()]


def test_the_schema_describes_every_setting_and_refuses_unknown_keys(folder: Path) -> None:
    schema = json.loads(run(folder, "schema").stdout)

    assert schema == settings_schema()
    assert list(schema["properties"]) == list(Settings.model_fields)
    for table in tables(schema):
        assert table["additionalProperties"] is False
        assert all(item.get("description") for item in table["properties"].values())
    assert "null" not in json.dumps(schema)


def test_the_schema_takes_a_star_alone_where_the_access_table_does() -> None:
    kinds = settings_schema()["definitions"]["AccessRule"]["properties"]["methods"]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["string", "array"]


# --- overrides of models ----------------------------------------------------------------------------------------------

OVERRIDES = """
[models."pricing.linear"]
provider = "cpu"
threads = 1
default_deadline = 1e-9
max_requests = 5
"""


@pytest.fixture
def filled(server: Running) -> Path:
    """A store with the reference models."""
    return server.home.parent / "store"


def test_a_running_server_gives_a_model_what_its_table_says(filled: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "mercato.toml").write_text(OVERRIDES)
    running = start(filled, MERCATO_CONFIG=str(tmp_path / "mercato.toml"))
    running.ready()
    with grpc.insecure_channel(running.address) as connected:
        wire = Wire(connected)
        with pytest.raises(grpc.RpcError) as caught:
            wire.prediction.Predict(pricing([[4.0]]))
        assert abs(wire.price(4.0) - 8.0) < 0.01

    without = failed(caught.value)
    assert (without.code, without.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXPIRED")


def test_a_bound_above_the_plugins_own_fails_that_model(filled: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "mercato.toml").write_text('[models."pricing.linear"]\nbatch_rows = 100000\n')
    (model,) = start(filled, MERCATO_CONFIG=str(tmp_path / "mercato.toml")).ready()["models"]

    assert (model["model"], model["state"]) == ("pricing.linear", "FAILED")
    assert model["reason"].startswith("CONFIG_INVALID: [models.'pricing.linear'] batch_rows is 100000, but the plugin")
