"""What the interface offers to authors, and what it brings along."""

import subprocess
import sys
from dataclasses import dataclass

import mercato_plugin
from mercato_plugin import Batch, Secret, setting
from mercato_plugin.settings import build_settings

PUBLIC = """
    API_VERSION BATCH GROUP Axis Batch BatchPolicy Bool BuildContext Built Choice Example Field Float FolderError
    GraphSpec Graphs Image Int InvalidInput Label LoadContext Model ModelFolder ModelSpec Parameter Ragged Secret
    SpecContext SpecError Str Tensor Text TopK folder_versions hookimpl masked publish_folder read_examples read_folder
    setting staged_folder write_examples
"""


def test_the_public_names() -> None:
    """Written out: taking one away or adding one is a decision."""
    assert sorted(mercato_plugin.__all__) == sorted(PUBLIC.split())
    assert all(hasattr(mercato_plugin, name) for name in mercato_plugin.__all__)
    assert (mercato_plugin.API_VERSION, mercato_plugin.GROUP) == ((1, 0), "mercato.plugins")


def test_importing_it_brings_no_large_package() -> None:
    code = "import sys, mercato_plugin, mercato_plugin.frozen; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    brought = set(done.stdout.split())
    assert {"mercato_plugin", "numpy", "pluggy"} <= brought
    assert not brought & {"torch", "onnx", "onnxruntime", "sklearn", "grpc", "google", "pydantic", "mercato_server"}


def test_a_secret_is_never_shown() -> None:
    secret = Secret("hush-hush")

    assert secret == "hush-hush"
    assert "hush-hush" not in repr(secret) + f"{secret!r}" + repr({"token": secret}) + repr([secret])


@dataclass(frozen=True)
class Taste:
    region: str = setting("eu", doc="where")
    threads: int = setting(1, doc="how many", build=False)
    token: Secret = setting(Secret("x"), doc="for the price list")


def test_settings_that_enter_the_build() -> None:
    assert build_settings(Taste()) == {"region": "eu"}
    assert build_settings(None) == {}


def test_of_two_rejections_of_a_row_the_first_counts() -> None:
    batch = Batch(inputs={}, rows=2)
    batch.reject(1, "x", "first")
    batch.reject(1, "y", "second")
    batch.truncate(0, "x")
    batch.truncate(0, "x")

    assert batch.rejected == {1: ("x", "first")}
    assert batch.truncated == {"x": {0}}
