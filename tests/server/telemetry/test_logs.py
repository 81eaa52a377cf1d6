"""The log: its two forms, and that nothing from outside forges a line or brings a payload along."""

import io
import json
import logging
import pty
from collections.abc import Iterator
from typing import Any, TextIO

import grpc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.docs.pages import read
from tests.server.calls import PREDICT, Wire, pricing
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato_server.telemetry.logs import FIELDS, Format, handler, printable

FORGED = 'x\n2026-01-01T00:00:00Z [error    ] forged\r\x1b[2J\x00\u2028\u2029\u202e\x85"} {"event": "forged"}'

FAULTY = '''
import os

from mercato_plugin import Example, Model, ModelSpec, Tensor, hookimpl


class Faulty(Model):
    """y = x; a batch that begins with a negative number raises."""

    spec = ModelSpec(
        name="test.faulty",
        inputs={"x": Tensor("float32", ("batch", 1), doc="a negative number raises")},
        outputs={"y": Tensor("float32", ("batch", 1), doc="x again")},
        doc="Answers with its input.",
    )

    def build(self, ctx):
        from onnx import TensorProto, helper

        rows = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 1]) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "faulty", rows[:1], rows[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = os.path.join(os.environ["FAULTY"], "faulty.onnx")
        with open(path, "wb") as file:
            file.write(made.SerializeToString())
        return path

    def examples(self, ctx):
        return [Example({"x": [[1.0]]}, outputs={"y": [[1.0]]})]

    def preprocess(self, batch):
        if batch.inputs["x"][0, 0] < 0:
            payload = float(batch.inputs["x"][0, 0])
            raise RuntimeError("first\\n2026-01-01T00:00:00Z [error    ] forged\\x1b[2J\\u202e", payload < 0)
        return batch.inputs


@hookimpl
def mercato_models():
    return [Faulty()]
'''


def logger(stream: TextIO, form: Format) -> logging.Logger:
    made = logging.Logger("mercato.test")
    made.addHandler(handler(stream, form))
    return made


def written(form: Format, text: str, **extra: Any) -> str:
    stream = io.StringIO()
    logger(stream, form).error("%s", text, extra=extra)
    return stream.getvalue()


def test_json_has_the_facts_as_fields() -> None:
    line = json.loads(written("json", "model failed", request_id="r-1", model="shop.tiny", plugin="shop", version=3))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "model failed", "level": "error", "logger": "mercato.test",
        "request_id": "r-1", "model": "shop.tiny", "plugin": "shop", "version": 3,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "console"])
@given(text=st.text(), value=st.text())
@example(text=FORGED, value=FORGED)
@example(text="\ud800", value="\udfff")
def test_one_event_is_one_line_without_control_characters(form: Format, text: str, value: str) -> None:
    shown = written(form, text, request_id=value, model=value)
    assert shown.endswith("\n") and shown[:-1].isprintable()
    assert form == "console" or json.loads(shown)["request_id"] == value


@given(st.text())
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("红色跑鞋 café") == "红色跑鞋 café"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_forges_no_line_and_shows_no_variables(form: Format) -> None:
    stream = io.StringIO()
    payload = "payload-" + "4711"
    try:
        raise ValueError(FORGED, len(payload))
    except ValueError as error:
        try:
            raise RuntimeError(FORGED) from error
        except RuntimeError:
            logger(stream, form).exception("failed", extra={"output": FORGED})
    first, *below = stream.getvalue().rstrip("\n").split("\n")
    assert "failed" in first
    assert all(line.startswith("  | ") and line.isprintable() for line in below)
    assert bool(below) == (form == "console")
    assert "payload-4711" not in stream.getvalue()


def test_auto_is_json_in_a_file_and_the_console_on_a_terminal() -> None:
    assert json.loads(written("auto", "hello"))["event"] == "hello"
    leader, follower = pty.openpty()
    with open(leader, "rb", 0) as terminal, open(follower, "w") as stream:
        logger(stream, "auto").error("hello")
        shown = terminal.read(4096)
    assert b"hello" in shown and b"\x1b[" in shown and not shown.startswith(b"{")


def test_colours_are_for_terminals_alone() -> None:
    assert "\x1b" not in written("console", "hello", model="shop.tiny")


@pytest.fixture(scope="module")
def faulty(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of one model that raises on negative numbers, with its log at DEBUG."""
    folder = tmp_path_factory.mktemp("faulty")
    path = install(folder / "site", "test-faulty", FAULTY)
    env = environment(folder / "home", ("test-faulty",), FAULTY=str(folder), PYTHONPATH=path)
    running = Running(folder / "store", folder / "work", env, "--log-level", "DEBUG", "--log-format", "json")
    try:
        running.ready()
        yield running
    finally:
        running.kill()


def lines(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.splitlines() if line.startswith("{")]


def test_a_fault_is_found_by_the_id_that_its_caller_got(faulty: Running) -> None:
    request = pricing([[-47.25]], request_id="shop-1")
    request.model.name = "test.faulty"
    with grpc.insecure_channel(faulty.address) as channel:
        refused = Wire(channel).refused(PREDICT, request.SerializeToString())
    assert refused.code is grpc.StatusCode.INTERNAL
    found = [line for line in lines(faulty) if line.get("fault") == refused.facts["id"]]
    batch, own = found
    assert "RuntimeError" in batch["exception"] and batch["plugin"] == "test-faulty"
    assert (own["request_id"], own["model"]) == ("shop-1", "test.faulty")
    assert {line["model"] for line in found} == {"test.faulty"}
    assert "47.25" not in faulty.log
    assert not any(line.startswith("2026") or "\x1b[2J" in line for line in faulty.log.split("\n"))


def test_debug_tells_of_each_request_with_its_id(faulty: Running) -> None:
    good, bad = (pricing([[1.0]], request_id=name) for name in ("shop-2", "shop\n3"))
    good.model.name = bad.model.name = "test.faulty"
    with grpc.insecure_channel(faulty.address) as channel:
        wire = Wire(channel)
        wire.prediction.Predict(good, timeout=20)
        refused = wire.refused(PREDICT, bad.SerializeToString())
    told = {line["request_id"]: line for line in lines(faulty) if line["event"] == "request finished"}
    answered = told["shop-2"]
    assert answered["ms"] > 0
    assert (answered["status"], answered["model"], answered["version"]) == ("OK", "test.faulty", 1)
    assert told[str(refused.trailing["x-request-id"])]["status"] == "INVALID_ARGUMENT"
    assert "shop\\n3" not in faulty.log


def test_every_field_is_in_the_reference() -> None:
    page = read("docs/reference/logs.md")
    assert [name for name in FIELDS if f"`{name}`" not in page] == []
