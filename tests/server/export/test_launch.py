"""The export process, seen from the server: events, reasons, and its end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mercato_plugin import Secret
from mercato_server.contract.plugin import PluginInfo
from mercato_server.errors import ExportFailed
from mercato_server.export.launch import export_model
from mercato_server.export.request import ExportRequest, Progress
from mercato_server.store import Store

PLUGIN = """
import os
from dataclasses import dataclass
from mercato_plugin import Model, ModelSpec, Secret, Tensor, hookimpl, setting

@dataclass(frozen=True)
class Settings:
    mode: str = setting("good", doc="what build does")
    token: Secret = setting(Secret(""), doc="a secret", build=False)

EVENTS = {
    "long": b"x" * (1 << 21),
    "garbage": b"{\\xff}",
    "deep": b"[" * 100_000,
    "number": b"7",
    "nameless": b"{}",
    "progress": b'{"event": "progress", "step": "build"}',
    "digits": b"9" * 9999,
}

def send(event):
    # Where the export process writes its own lines.
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, event + b"\\n")
        except OSError:
            pass

class Tiny(Model):
    settings = Settings
    spec = ModelSpec(name="shop.tiny", inputs={"x": Tensor("float32", ("batch", 2))},
                     outputs={"y": Tensor("float32", ("batch", 2))})

    def build(self, ctx):
        print("noise on stdout", flush=True)
        os.write(1, b"more noise\\n")
        assert ctx.settings.token == "sesame"
        if ctx.settings.mode == "die":
            os.kill(os.getpid(), 9)
        if ctx.settings.mode == "leave":
            os._exit(3)
        if ctx.settings.mode in EVENTS:
            send(EVENTS[ctx.settings.mode])
        if ctx.settings.mode == "hang":
            open(os.environ["HANG_PIPE"]).read()
        import torch
        assert os.nice(0) == 19
        return torch.nn.Linear(2, 2)

@hookimpl
def mercato_models():
    return [Tiny()]
"""


@pytest.fixture
def request_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExportRequest:
    (tmp_path / "made_plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = {"mode": "good", "token": Secret("sesame")}
    info = PluginInfo("mercato-made", "1.0", "made", "made_plugin")
    return ExportRequest(info, "shop.tiny", tmp_path / "store", "b" * 64, settings=settings)


def with_mode(request: ExportRequest, mode: str) -> ExportRequest:
    return ExportRequest.from_json(request.to_json().replace(b'"good"', f'"{mode}"'.encode()))


def test_a_request_survives_the_way(request_for: ExportRequest) -> None:
    received = ExportRequest.from_json(request_for.to_json())

    assert received == request_for
    assert isinstance(received.settings["token"], Secret)


async def test_the_process_exports_and_a_second_one_uses_what_it_published(request_for: ExportRequest) -> None:
    heard: list[Progress] = []
    digest = await export_model(request_for, heard.append)

    found = Store(request_for.store).find(request_for.key)
    assert found is not None and found.digest == digest
    assert list(dict.fromkeys(progress.step for progress in heard)) == [
        "build", "export", "certify", "store",
    ]  # fmt: skip
    heard.clear()
    assert await export_model(request_for, heard.append) == digest
    assert heard == []


@pytest.mark.parametrize(
    ("mode", "told"),
    [("die", "was ended by signal SIGKILL"), ("leave", "ended with exit code 3 and without a result")],
)
async def test_a_process_that_dies_without_a_word_is_told(request_for: ExportRequest, mode: str, told: str) -> None:
    with pytest.raises(ExportFailed, match=f"'shop.tiny': the export process {told}"):
        await export_model(with_mode(request_for, mode), lambda progress: None)


@pytest.mark.parametrize("mode", ["long", "garbage", "deep", "number", "nameless", "progress", "digits"])
async def test_an_event_that_is_none_fails_the_export(request_for: ExportRequest, mode: str) -> None:
    with pytest.raises(ExportFailed, match="export of model 'shop.tiny': the export process sent what is no event"):
        await export_model(with_mode(request_for, mode), lambda progress: None)


async def test_a_reason_comes_through_without_traceback(request_for: ExportRequest) -> None:
    changed = ExportRequest.from_json(request_for.to_json().replace(b"shop.tiny", b"shop.gone"))

    with pytest.raises(ExportFailed, match="plugin 'mercato-made' no longer offers model 'shop.gone'"):
        await export_model(changed, lambda progress: None)


async def test_cancelling_ends_the_process(
    request_for: ExportRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("HANG_PIPE", str(tmp_path / "pipe"))
    building = asyncio.Event()
    export = asyncio.create_task(export_model(with_mode(request_for, "hang"), lambda progress: building.set()))
    await building.wait()
    # Opening for writing waits until the process has opened it for reading: it hangs in build now.
    writer = await asyncio.to_thread(os.open, tmp_path / "pipe", os.O_WRONLY)
    export.cancel()

    with pytest.raises(asyncio.CancelledError):
        await export
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"is anybody there")
    os.close(writer)


def test_the_launcher_imports_no_build_tool() -> None:
    script = (
        "import sys, mercato_server.export.launch, mercato_server.store, mercato_server.export.tools\n"
        "sys.exit(bool({'torch', 'onnx', 'sklearn', 'skl2onnx', 'onnxruntime'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
