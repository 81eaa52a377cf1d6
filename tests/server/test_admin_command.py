"""`mercato admin` against an admin listener in this process, and a server: what it asks, prints and exits with."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tests.server.calls import Wire
from tests.server.conftest import Start
from tests.server.rpc.desk import STEPS, WORKER, Desk
from typer.testing import CliRunner, Result

from mercato.v1 import catalog_pb2
from mercato_client.cli.app import app
from mercato_server import config
from mercato_server.commands.admin import MIB
from mercato_server.contract.administration import LoadStep, Unloaded
from mercato_server.contract.state import State
from mercato_server.errors import ConfigError, LabelRefused, LoadRefused, NotFound
from mercato_server.rpc.admin_listener import AdminServer
from mercato_server.rpc.health import Health
from mercato_server.rpc.observation import Observation
from mercato_server.rpc.server import Limits
from mercato_server.serving.catalog import Catalog

Mercato = Callable[..., Awaitable[Result]]

MODEL = "pricing.linear"
COMMANDS = (["load", MODEL], ["unload", MODEL], ["label", MODEL, "stable", "--remove"], ["drain"], ["workers"])
NOT_UTF_8 = os.fsdecode(b"a\xff")
NOBODY = 65534


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the socket of port 8500 is; no settings file is near."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mercato" / "admin-8500.sock"


@pytest.fixture
async def desk(place: Path) -> AsyncIterator[Desk]:
    """A server on the socket of port 8500."""
    desk = Desk()
    server = AdminServer(Catalog(), desk, Limits(), Observation(), Health())
    await server.start(f"unix:{place}")
    yield desk
    await server.stop(0)


async def mercato(*args: str) -> Result:
    """The command, beside the loop that serves it."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["admin", *args])


async def test_a_load_is_told_step_by_step(desk: Desk) -> None:
    result = await mercato("load", MODEL)
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        ["pricing.linear 2: LOADING", "pricing.linear 2: AVAILABLE: unchanged", "loaded pricing.linear 2"],
    )
    assert desk.asked == [("load", MODEL, None, "")]


async def test_a_load_of_what_serves_already_says_so(desk: Desk) -> None:
    desk.steps = STEPS[-1:]
    lines = (await mercato("load", MODEL)).stdout.splitlines()
    assert lines == ["pricing.linear 2: AVAILABLE: unchanged", "nothing to load: what is installed serves already"]


async def test_one_version_of_a_model_is_loaded(desk: Desk) -> None:
    assert (await mercato("load", MODEL, "--version", "2")).exit_code == 0
    assert desk.asked == [("load", MODEL, 2, "")]
    stray = await mercato("load", "--plugin", "mercato-pricing", "--version", "2")
    assert (stray.exit_code, len(desk.asked)) == (2, 1)
    assert stray.stderr == "mercato: --version: expected with the name of a model, not with --plugin\n"


async def test_a_version_that_failed_is_an_exit_code_and_nothing_else_is_said_of_it(desk: Desk) -> None:
    failed = LoadStep(MODEL, 3, State.FAILED, reason="FOLDER_DAMAGED: it is torn")
    desk.steps = (failed, STEPS[-1])
    result = await mercato("load", MODEL)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        "pricing.linear 3: FAILED: FOLDER_DAMAGED: it is torn", "pricing.linear 2: AVAILABLE: unchanged"
    ]  # fmt: skip
    document = await mercato("load", MODEL, "--json")
    assert document.exit_code == 1
    assert [json.loads(line)["state"] for line in document.stdout.splitlines()] == ["FAILED", "AVAILABLE"]


async def test_what_was_loaded_beside_a_failure_is_told_alone(desk: Desk) -> None:
    begun = LoadStep(MODEL, 3, State.LOADING)
    desk.steps = (begun, LoadStep(MODEL, 3, State.FAILED, reason="LOAD_FAILED: no room"), *STEPS)
    result = await mercato("load", MODEL)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "loaded pricing.linear 2")


async def test_a_load_is_one_json_line_per_step(desk: Desk) -> None:
    result = await mercato("load", "--plugin", "mercato-pricing", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [{**vars(step), "state": step.state.value} for step in STEPS]
    assert desk.asked == [("load", "", None, "mercato-pricing")]


@pytest.mark.parametrize("args", [[], [MODEL, "--plugin", "mercato-pricing"]])
async def test_a_load_is_of_a_model_or_of_a_plugin(desk: Desk, args: list[str]) -> None:
    result = await mercato("load", *args)
    assert (result.exit_code, desk.asked) == (2, [])
    assert result.stderr == "mercato: MODEL: expected the name of a model, or --plugin with that of a plugin\n"


async def test_unloading_says_what_went(desk: Desk) -> None:
    assert (await mercato("unload", MODEL)).stdout == "unloaded pricing.linear version 3, 2; 5.0 MiB given back\n"
    one = await mercato("unload", MODEL, "--version", "2", "--json")
    assert json.loads(one.stdout) == {"model": MODEL, "versions": [2], "memory_bytes": 5 * 2**20}
    assert desk.asked == [("unload", MODEL, None), ("unload", MODEL, 2)]


async def test_unloading_what_is_unloaded_says_so(desk: Desk) -> None:
    desk.unloaded = Unloaded((), 0)
    assert (await mercato("unload", MODEL)).stdout == "pricing.linear was unloaded already\n"
    assert (await mercato("unload", MODEL, "--version", "2")).stdout == (
        "pricing.linear version 2 was unloaded already\n"
    )


async def test_labels_are_moved_and_removed(desk: Desk) -> None:
    moved = await mercato("label", MODEL, "stable", "--version", "2")
    assert moved.stdout == "labels of pricing.linear: canary = 3, stable = 2\n"
    removed = await mercato("label", MODEL, "stable", "--remove", "--json")
    assert json.loads(removed.stdout) == {"model": MODEL, "labels": {"canary": 3}}
    assert desk.asked == [("label", MODEL, "stable", 2), ("label", MODEL, "stable", None)]


@pytest.mark.parametrize("args", [[], ["--version", "2", "--remove"]])
async def test_a_label_is_moved_or_removed(desk: Desk, args: list[str]) -> None:
    result = await mercato("label", MODEL, "stable", *args)
    assert (result.exit_code, desk.asked) == (2, [])
    assert "--version: expected the version that the label shall mean, or --remove" in result.stderr


async def test_draining_says_what_is_open(desk: Desk) -> None:
    assert (await mercato("drain")).stdout == "the server drains; 7 requests are open\n"
    assert json.loads((await mercato("drain", "--json")).stdout) == {"requests": 7}


async def test_workers_are_a_table_and_their_models_another(desk: Desk) -> None:
    lines = [" ".join(line.split()) for line in (await mercato("workers")).stdout.splitlines()]
    assert "┃ plugin ┃ pid ┃ isolation ┃ MiB ┃ restarts ┃ last crash ┃" in lines
    assert any(line.startswith("│ mercato-pricing 0.1.0 │ 4711 │ process │ 100.0 │ 2 │ was ended by") for line in lines)
    assert "│ pricing.linear │ 3 │ AVAILABLE │ 5.0 │ mercato-pricing │" in lines


async def test_workers_are_a_document(desk: Desk) -> None:
    (worker,) = json.loads((await mercato("workers", "--json")).stdout)
    assert worker == {
        "plugin": "mercato-pricing",
        "plugin_version": "0.1.0",
        "isolation": "process",
        "pid": WORKER.pid,
        "started": "2026-09-21T14:13:20.250+00:00",
        "restarts": 2,
        "last_crash": WORKER.last_crash,
        "memory_bytes": WORKER.nbytes,
        "models": [{"model": MODEL, "version": 3, "state": "AVAILABLE", "memory_bytes": 5 * 2**20}],
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("there is no model 'a.b'; there are none"), 3),
        (LoadRefused("model 'a.b' cannot be loaded:\nit fails", reason="LOAD_FAILED"), 1),
        (LabelRefused("model 'a.b' version 2 is FAILED"), 1),
        (KeyError("/secret"), 1),
    ],
)
@pytest.mark.parametrize("args", [["load", MODEL], ["unload", MODEL], ["label", MODEL, "stable", "--remove"]])
async def test_errors_are_one_line_and_an_exit_code(
    desk: Desk, caplog: pytest.LogCaptureFixture, args: list[str], error: Exception, code: int
) -> None:
    desk.fault = error
    result = await mercato(*args)
    assert result.exit_code == code
    text = "internal error" if isinstance(error, KeyError) else " ".join(str(error).split())
    assert result.stderr.startswith(f"mercato: {text}") and result.stderr.count("\n") == 1


async def test_names_that_are_none_are_wrong_input(desk: Desk) -> None:
    result = await mercato("unload", "../x")
    assert (result.exit_code, "got '../x', expected the name of a model" in result.stderr) == (2, True)


@pytest.mark.parametrize("args", [["--port", "8499"], ["--admin", "127.0.0.1:1"], []])
async def test_no_server_is_told_as_such(args: list[str]) -> None:
    result = await mercato("workers", *args)
    assert (result.exit_code, "start one with `mercato serve`" in result.stderr) == (4, True)


async def test_a_timeout_ends_the_waiting(desk: Desk) -> None:
    desk.gate.clear()
    result = await mercato("load", MODEL, "--timeout", "0.05")
    assert (result.exit_code, "within the timeout" in result.stderr) == (1, True)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("seconds", ["inf", "1e300"])
async def test_a_timeout_that_is_no_time_is_wrong_input(desk: Desk, command: list[str], seconds: str) -> None:
    result = await mercato(*command, "--timeout", seconds)
    text = f"mercato: timeout: got {float(seconds):g}, expected a number of seconds, at most 1e+08\n"
    assert (result.exit_code, result.stderr, desk.asked) == (2, text, [])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("seconds", ["nan", "-1"])
async def test_a_timeout_below_zero_or_none_is_wrong_usage(desk: Desk, command: list[str], seconds: str) -> None:
    result = await mercato(*command, "--timeout", seconds)
    assert (result.exit_code, "should be greater than or equal to 0" in result.stderr, desk.asked) == (2, True, [])
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["load", MODEL], ["unload", MODEL], ["label", MODEL, "stable"]])
async def test_a_version_that_no_model_can_have_is_wrong_usage(desk: Desk, command: list[str]) -> None:
    result = await mercato(*command, "--version", "99999999999999999999")
    assert (result.exit_code, "--version" in result.stderr, desk.asked) == (2, True, [])
    assert "should be less than or equal to 2147483647" in result.stderr


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        (["load", NOT_UTF_8], "model"),
        (["load", "--plugin", NOT_UTF_8], "plugin"),
        (["unload", NOT_UTF_8], "model"),
        (["label", NOT_UTF_8, "stable", "--remove"], "model"),
        (["label", MODEL, NOT_UTF_8, "--version", "2"], "label"),
    ],
)
async def test_names_that_are_not_utf_8_are_wrong_input(desk: Desk, command: list[str], argument: str) -> None:
    result = await mercato(*command)
    text = f"mercato: {argument}: got a lone surrogate, expected Unicode text\n"
    assert (result.exit_code, result.stderr, desk.asked) == (2, text, [])


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_path_that_no_socket_can_have_is_wrong_input(command: list[str]) -> None:
    result = await mercato(*command, "--admin", f"unix:/{'a' * 300}/x.sock")
    text = "mercato: the path of the admin socket has 308 bytes, expected at most 107\n"
    assert (result.exit_code, result.stderr) == (2, text)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("address", ["127.0.0.1:" + "9" * 5000, "unix:/tmp/a\0/x.sock"])
async def test_an_address_that_cannot_be_read_is_wrong_usage(command: list[str], address: str) -> None:
    result = await mercato(*command, "--admin", address)
    assert (result.exit_code, result.stderr.count("\n"), "expected unix:PATH" in result.stderr) == (2, 1, True)


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user cannot look into."""
    folder, user = tmp_path / "closed", os.geteuid()
    folder.mkdir(mode=0)
    os.seteuid(user or NOBODY)
    yield folder
    os.seteuid(user)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_looked_at_is_told_as_such(unreadable: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, ["admin", *command, "--admin", f"unix:{unreadable}/run/x.sock"])
    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert "the folder of the socket cannot be used: Permission denied" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_path_that_is_not_utf_8_is_served_and_asked_alike(
    desk: Desk, tmp_path: Path, command: list[str]
) -> None:
    address = f"unix:{tmp_path}/{NOT_UTF_8}/x.sock"
    none = await mercato(*command, "--admin", address)
    assert (none.exit_code, "start one with `mercato serve`" in none.stderr) == (4, True)
    server = AdminServer(Catalog(), desk, Limits(), Observation(), Health())
    assert await server.start(address) == address
    assert (await mercato(*command, "--admin", address)).exit_code == 0
    await server.stop(0)


async def test_a_folder_that_others_may_write_is_not_trusted(desk: Desk, place: Path) -> None:
    place.parent.chmod(0o777)
    result = await mercato("workers")
    assert (result.exit_code, "open to others" in result.stderr, desk.asked) == (4, True, [])


@pytest.mark.parametrize("address", ["unix", "off", "unix:admin.sock", "192.0.2.1:8500", "8500", ""])
async def test_an_address_that_is_none_is_wrong_usage(address: str) -> None:
    result = await mercato("workers", "--admin", address)
    assert (result.exit_code, f"--admin: got {address!r}, expected unix:PATH" in result.stderr) == (2, True)


async def test_the_settings_name_the_server(desk: Desk, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERCATO_LISTEN", "127.0.0.1:8499")
    assert (await mercato("workers")).exit_code == 4
    monkeypatch.setenv("MERCATO_ADMIN_LISTEN", f"unix:{place}")
    assert (await mercato("workers")).exit_code == 0
    monkeypatch.setenv("MERCATO_ADMIN_LISTEN", "off")
    off = await mercato("workers")
    assert (off.exit_code, "admin_listen is off" in off.stderr) == (2, True)
    assert (await mercato("workers", "--port", "8500")).exit_code == 0
    monkeypatch.setenv("MERCATO_ADMIN_LISTEN", "unix")
    monkeypatch.setenv("MERCATO_LISTEN", "127.0.0.1:0")
    chosen = await mercato("workers")
    assert (chosen.exit_code, "leave the port to the system" in chosen.stderr) == (2, True)
    monkeypatch.setenv("MERCATO_ADMIN_LISTEN", "127.0.0.1:0")
    assert (await mercato("workers")).exit_code == 2
    assert (await mercato("workers", "--admin", f"unix:{place}")).exit_code == 0


@pytest.mark.parametrize("listen", ["unix", "off", "unix:/run/mercato/a.sock", "127.0.0.1:0", "[::1]:9", "localhost:9"])
def test_the_listener_is_a_socket_or_loopback(listen: str) -> None:
    assert config.load(admin_listen=listen).admin_listen == listen


@pytest.mark.parametrize(
    "listen",
    ["", "unix:", "unix:run/a.sock", "unix:/", "unix:/run/", "unix:/run/..", "unix:/a\0b", "unix-abstract:a",
     "0.0.0.0:9", "192.0.2.1:9", "[::]:9", "shop.example:9", "127.0.0.1", "127.0.0.1:65536", "9"],
)  # fmt: skip
def test_anything_else_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"admin_listen: got .*, expected 'unix', unix:PATH with an absolute path"):
        config.load(admin_listen=listen)


def test_the_socket_is_in_a_folder_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config.admin_address("unix", 8500) == f"unix:{tmp_path}/mercato/admin-8500.sock"
    for useless in ("run/user", ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert config.admin_address("unix", 8500).endswith(f"/mercato-{os.getuid()}/admin-8500.sock")
    assert config.admin_address("unix:/run/a.sock", 8500) == "unix:/run/a.sock"


# --- a running server -------------------------------------------------------------------------------------------------


async def test_a_running_server_is_administered(start: Start, store: Path, tmp_path: Path) -> None:
    running = start(store, XDG_RUNTIME_DIR=str(tmp_path))
    event = running.event("listening")
    running.event("ready")
    port = str(event["port"])
    assert event["admin"] == f"unix:{tmp_path}/mercato/admin-{port}.sock"

    (worker,) = json.loads((await mercato("workers", "--port", port, "--json")).stdout)
    assert (worker["plugin"], worker["restarts"], worker["last_crash"]) == ("mercato-pricing", 0, "")
    assert worker["pid"] in running.children() and worker["memory_bytes"] > MIB
    assert [(m["model"], m["version"], m["state"]) for m in worker["models"]] == [(MODEL, 1, "AVAILABLE")]

    assert (await mercato("label", MODEL, "canary", "--version", "1", "--port", port)).exit_code == 0
    assert (await mercato("label", MODEL, "canary", "--version", "2", "--port", port)).exit_code == 3
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        asked = catalog_pb2.GetModelRequest()
        asked.model.name, asked.model.label = MODEL, "canary"
        assert dict(Wire(channel).catalog.GetModel(asked, timeout=20).model.labels) == {"canary": 1}

    assert (await mercato("drain", "--port", port)).stdout == "the server drains; 0 requests are open\n"
    assert await asyncio.to_thread(running.ended) == 0
    assert os.listdir(tmp_path / "mercato") == []


def test_a_server_does_not_start_with_a_socket_that_others_can_replace(
    start: Start, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    running = start(store, "--admin-listen", f"unix:{tmp_path}/open/admin.sock")
    assert running.ended() == 1
    assert "admin_listen: the folder of the socket is open to others" in running.log
    assert str(tmp_path) not in running.log and "Traceback" not in running.log


def test_a_server_can_do_without_the_listener(start: Start, store: Path, tmp_path: Path) -> None:
    running = start(store, "--admin-listen", "off", XDG_RUNTIME_DIR=str(tmp_path))
    assert running.event("listening")["admin"] is None
    assert not (tmp_path / "mercato").exists()
