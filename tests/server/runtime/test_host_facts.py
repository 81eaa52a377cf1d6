"""What the machine allows: cores, execution providers, and nothing written to the home folder."""

import ctypes
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mercato_server.errors import ProviderUnavailable
from mercato_server.runtime import providers
from mercato_server.runtime.threads import cpu_limit


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def cgroup(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu_max": "200000 100000\n"}, 2),
        ({"cpu_max": "150000 100000"}, 1),
        ({"cpu_max": "50000 100000"}, 1),
        ({"cpu_max": "1600000 100000"}, 8),
        ({"cpu_max": "max 100000"}, 8),
        ({"cpu_max": "nonsense"}, 8),
        ({"cpu__cpu_cfs_quota_us": "300000", "cpu__cpu_cfs_period_us": "100000"}, 3),
        ({"cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}, 8),
        ({"cpu__cpu_cfs_quota_us": "300000"}, 8),
    ],
)
def test_cores_follow_the_containers_quota(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert cpu_limit(cgroup(tmp_path, **files)) == cores


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("place", "files", "cores"),
    [
        ("0::/", {"cpu_max": "300000 100000"}, 3),
        ("0::/pod/box", {"pod__box__cpu_max": "200000 100000"}, 2),
        ("0::/pod/box", {"pod__box__cpu_max": "max 100000", "pod__cpu_max": "400000 100000"}, 4),
        ("0::/pod/box", {"pod__box__cpu_max": "600000 100000", "pod__cpu_max": "500000 100000"}, 5),
        ("0::/pod/box", {"pod__box__cpu_max": "600000 100000", "cpu_max": "100000 100000"}, 1),
        ("3:cpu:/pod\n0::/pod", {"pod__cpu_max": "200000 100000"}, 2),
        ("0::/../pod", {"cpu_max": "300000 100000"}, 3),
        ("3:cpu:/pod", {"pod__cpu_max": "200000 100000"}, 8),
    ],
)
def test_every_group_up_to_the_root_limits_the_cores(
    tmp_path: Path, place: str, files: dict[str, str], cores: int
) -> None:
    own = tmp_path / "own"
    own.write_text(place + "\n")
    assert cpu_limit(cgroup(tmp_path / "mounted", **files), own) == cores


def test_cores_follow_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)

    assert cpu_limit(cgroup(tmp_path, cpu_max="800000 100000")) == 2


@pytest.fixture
def without_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(name: str, *rest: Any) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    with monkeypatch.context() as patch:
        patch.setattr(ctypes, "CDLL", refuse)
        yield


@pytest.mark.usefixtures("without_driver")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_come_up_is_refused_with_the_reason(name: Any) -> None:
    with pytest.raises(ProviderUnavailable, match=f"provider '{name}' does not come up: there is no NVIDIA driver"):
        providers.choose(name)


@pytest.mark.usefixtures("without_driver")
def test_auto_falls_back_and_says_so() -> None:
    chosen = providers.choose("auto")

    assert chosen.name == "cpu"
    assert chosen.note.startswith("auto fell back to cpu: there is no NVIDIA driver")


def test_the_cpu_needs_no_note() -> None:
    assert providers.choose("cpu") == providers.Provider("cpu", "")


def test_a_driver_without_a_device_is_found_out_by_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("no device")

    monkeypatch.setattr(ctypes, "CDLL", lambda *args: None)
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr("onnxruntime.InferenceSession", Refusing)
    with pytest.raises(ProviderUnavailable, match=r"a probe session failed \(RuntimeError\)"):
        providers.choose("cuda")


def test_the_probe_computes_on_the_cpu() -> None:
    assert providers._probe("cpu") == ""


def test_two_wheels_of_onnxruntime_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "version", lambda name: {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}[name])
    with pytest.raises(ProviderUnavailable, match="both onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed"):
        providers.choose("cpu")


@pytest.mark.parametrize("wheel", ["onnxruntime", "onnxruntime-gpu"])
def test_either_wheel_alone_is_fine(monkeypatch: pytest.MonkeyPatch, wheel: str) -> None:
    def version(name: str) -> str:
        if name == wheel:
            return "1.31.1"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(providers, "version", version)
    assert providers.choose("cpu").name == "cpu"


def test_nothing_is_written_to_an_empty_home(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    code = "import mercato_server.runtime.session; import mercato_server.runtime.providers as p; p.choose('cpu')"
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60)

    assert list(tmp_path.iterdir()) == []


def test_a_probe_apart_computes_and_leaves_nothing_behind() -> None:
    code = (
        "import sys; from mercato_server.runtime import providers as p; "
        "print(repr(p._probe_apart('cpu')), 'onnxruntime' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "'' False\n"


@pytest.mark.skipif(not providers._missing("cuda"), reason="cuda comes up on this machine")
def test_a_probe_apart_says_why_a_provider_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *args: None)
    chosen = providers.choose("auto", apart=True)
    assert chosen.note.startswith("auto fell back to cpu: onnxruntime could not create it")


def test_a_probe_apart_that_dies_or_hangs_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert providers._probe_apart("nonsense") == "a probe session failed (KeyError)"
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert providers._probe_apart("cpu") == "a probe session ended with code 1"
    monkeypatch.undo()
    monkeypatch.setattr(providers, "PROBE_SECONDS", 0.001)
    assert providers._probe_apart("cpu") == "a probe session took longer than 0.001 s"


def test_a_front_whose_plugins_run_apart_does_not_import_onnxruntime() -> None:
    code = (
        "import sys, mercato_server.app, mercato_server.rpc.server, mercato_server.runtime.process; "
        "from mercato_server.runtime.providers import choose; choose('auto', apart=True); "
        "print('onnxruntime' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "False\n"
