"""The `mercato` command: what it prints, and with which code it ends."""

import json
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from tests.client.fake import Failure, FakeServer, image, label, numbers, text
from typer import Typer
from typer.testing import CliRunner, Result

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato_client.cli.app import app
from mercato_client.cli.connection import Connection
from mercato_client.cli.document import jsonable
from mercato_client.cli.example import example_call
from mercato_client.cli.lazy import GROUP, SHIPPED

NO_RETRY = (("grpc-retry-pushback-ms", "-1"),)


def mercato(*arguments: str, width: int = 200) -> Result:
    environment = {"COLUMNS": str(width), "TERM": "dumb"}
    return CliRunner().invoke(app, list(arguments), prog_name="mercato", env=environment)


def table(shown: str) -> dict[str, str]:
    """Rows of two cells, by the first of them."""
    lines = (line.strip("│┃ ").split(" │ ") for line in shown.splitlines())
    return {cells[0].strip(): cells[1].strip() for cells in lines if len(cells) == 2}


def predict(server: FakeServer, *arguments: str) -> Result:
    return mercato("predict", *arguments, "--server", server.address)


def test_predict_prints_a_table(server: FakeServer) -> None:
    server.receipt = prediction_pb2.Receipt(
        queue_ns=1_500_000, batch_rows=1, release_reason=prediction_pb2.RELEASE_REASON_IDLE, provider="cpu"
    )
    done = predict(server, "pricing.linear", "--input", '{"x": [[4.0]]}', "--receipt")
    assert done.exit_code == 0 and done.stderr == ""
    for expected in ("pricing.linear version 1", "float32", "[1, 1]", "[[4.]]", "1.500 ms", "1 rows, 0% padding, IDLE"):
        assert expected in done.stdout


def test_a_receipt_tells_batches_cache_and_artifact(server: FakeServer) -> None:
    server.receipt = prediction_pb2.Receipt(
        batch_rows=64, batches=3, release_reason=prediction_pb2.RELEASE_REASON_WINDOW, provider="cpu",
        cache=prediction_pb2.CACHE_OUTCOME_PARTIAL, cached_rows=7, digest="ab12",
    )  # fmt: skip
    shown = predict(server, "pricing.linear", "--input", '{"x": 4.0}', "--receipt").stdout
    assert table(shown)["batch"] == "64 rows, 0% padding, WINDOW"
    assert {name: table(shown)[name] for name in ("batches", "cache", "digest")} == {
        "batches": "3", "cache": "PARTIAL, 7 rows", "digest": "ab12",
    }  # fmt: skip


def test_a_receipt_without_a_run_tells_no_batch(server: FakeServer) -> None:
    server.receipt = prediction_pb2.Receipt(provider="cpu", cache=prediction_pb2.CACHE_OUTCOME_HIT, cached_rows=1)
    shown = table(predict(server, "pricing.linear", "--input", '{"x": 4.0}', "--receipt").stdout)
    assert shown["cache"] == "HIT, 1 rows"
    assert not {"batch", "batches", "digest"} & shown.keys()


def test_predict_prints_one_json_document(server: FakeServer) -> None:
    done = predict(server, "pricing.linear", "--input", '{"x": [[4.0]]}', "--json")
    document = json.loads(done.stdout)
    assert document["outputs"] == {"x": [[4.0]]} and document["receipt"] is None
    assert document["model"] == {"name": "pricing.linear", "version": 1, "digest": "d1"}


def test_predict_reads_inputs_from_a_file(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text('{"x": [[5.0]]}')
    done = predict(server, "pricing.linear", "--input", f"@{path}", "--json")
    assert json.loads(done.stdout)["outputs"] == {"x": [[5.0]]}


def test_predict_puts_texts_into_the_text_input(server: FakeServer) -> None:
    server.offer("semantic.encoder", text("query"))
    done = predict(server, "semantic.encoder", "--text", "红色跑鞋", "--text", "red shoes", "--json")
    assert json.loads(done.stdout)["outputs"] == {"query": ["红色跑鞋", "red shoes"]}
    assert "红色跑鞋" in done.stdout


def test_one_text_input_has_one_source(server: FakeServer) -> None:
    server.offer("semantic.encoder", text("query"))
    done = predict(server, "semantic.encoder", "--text", "a", "--input", '{"query": ["b"]}')
    assert done.exit_code == 2 and server.requests == []
    assert done.stderr == "mercato: --text: input 'query' is in --input too; expected one of them\n"


def test_predict_takes_paths_for_images(server: FakeServer, tmp_path: Path) -> None:
    server.offer("vision.tags", image("photo"))
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8")
    arguments = ("vision.tags", "--input", json.dumps({"photo": [str(path)]}))
    assert json.loads(predict(server, *arguments, "--json").stdout)["outputs"] == {"photo": ["/9g="]}
    assert "2 bytes" in predict(server, *arguments).stdout


def test_predict_types_parameters_by_the_signature(server: FakeServer) -> None:
    server.offer("shop.rank", numbers("x", "FP32"), parameters=[
        catalog_pb2.Parameter(name="mode", type=catalog_pb2.PARAMETER_TYPE_STRING),
        catalog_pb2.Parameter(name="alpha", type=catalog_pb2.PARAMETER_TYPE_FLOAT),
    ])  # fmt: skip
    options = [f"--parameter={pair}" for pair in ("mode=10", "alpha=2", "k=3", "on=true", "free=words")]
    assert predict(server, "shop.rank", "--input", '{"x": 1}', "--version", "1", *options).exit_code == 0
    kinds = {name: value.WhichOneof("kind") for name, value in server.requests[0].parameters.items()}
    assert kinds == {
        "mode": "string_value", "alpha": "float_value", "k": "int_value", "on": "bool_value", "free": "string_value",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--input", "{"), "--input: not valid JSON: "),
        (("--input", "[1]"), '--input: got a JSON list, expected an object such as {"x": [[4.0]]}'),
        (("--input", "@/no/such"), "--input: '/no/such' cannot be read: No such file or directory"),
        (("--input", "[" * 3000), "--input: lists are nested too deeply"),
        (("--input", '{"x": 1, "x": 2}'), "--input: key 'x' is given twice"),
        (("--input", '{"x": {"a": 1, "a": 2}}'), "--input: key 'a' is given twice"),
        (("--parameter", "k=1", "--parameter", "k=2"), "--parameter: 'k' is given twice"),
        (("--input", '{"x": 1}', "--timeout", "inf"), "timeout: got inf, expected a number of seconds"),
        (("--text", "a"), "--text: the model has 0 text inputs, expected one; use --input (its inputs: x)"),
        (("--parameter", "k"), "--parameter: got 'k', expected name=value"),
        ((), "inputs.x: missing; the input is required"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(server: FakeServer, arguments: tuple[str, ...], text: str) -> None:
    done = predict(server, "pricing.linear", *arguments)
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("mercato: ") and text in done.stderr


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(StatusCode.NOT_FOUND, "gone", "MODEL_NOT_FOUND"), 3),
        (Failure(StatusCode.FAILED_PRECONDITION, "gone", "MODEL_FAILED"), 4),
        (Failure(StatusCode.RESOURCE_EXHAUSTED, "gone", "OVERLOADED", trailing=NO_RETRY), 4),
        (Failure(StatusCode.UNAVAILABLE, "gone", "DRAINING", trailing=NO_RETRY), 4),
        (Failure(StatusCode.INTERNAL, "two\nlines", "PLUGIN_FAULT"), 1),
    ],
)
def test_every_error_has_its_exit_code(server: FakeServer, failure: Failure, code: int) -> None:
    server.failures = [failure]
    done = predict(server, "pricing.linear", "--input", '{"x": 1}')
    assert done.exit_code == code and done.stderr == f"mercato: {' '.join(failure.text.split())}\n"


def test_wrong_usage_is_one_line() -> None:
    assert mercato("predict").stderr == "mercato: Missing argument 'model'; see `mercato predict --help`\n"
    done = mercato("predikt")
    assert done.exit_code == 2 and done.stderr.startswith("mercato: No such command 'predikt'")
    assert done.stderr.count("\n") == 1


def test_no_server_is_code_4(nobody: str) -> None:
    done = mercato("models", "--server", nobody)
    assert done.exit_code == 4 and "start one with `mercato serve`" in done.stderr


def test_models_lists_all_with_state_and_reason(server: FakeServer) -> None:
    failed = server.offer("shop.rank", numbers("x", "FP32")).versions[0]
    failed.state, failed.reason = catalog_pb2.MODEL_STATE_FAILED, "parity failed [y]"
    plugin = catalog_pb2.Plugin(distribution="mercato-broken")
    server.refused = [catalog_pb2.RefusedPlugin(plugin=plugin, code="IMPORT_FAILED", reason="no module named foo")]
    done = mercato("models", "--server", server.address)
    for expected in ("pricing.linear", "AVAILABLE", "FAILED", "parity failed [y]", "mercato-broken", "IMPORT_FAILED"):
        assert expected in done.stdout
    document = json.loads(mercato("models", "--server", server.address, "--json").stdout)
    assert [model["name"] for model in document["models"]] == ["pricing.linear", "shop.rank"]
    assert document["refused_plugins"][0]["code"] == "IMPORT_FAILED"


def test_that_there_is_no_gpu_is_told_once(server: FakeServer) -> None:
    why = "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    rank = server.offer("shop.rank", numbers("x", "FP32")).versions[0]
    others = [version for model in server.models.values() for version in model.versions]
    for version in others:
        version.reason = f"auto fell back to cpu: {why}"
    shown = mercato("models", "--server", server.address, width=80).stdout
    assert shown.count("libcuda") == 1 and shown.endswith(f"\nno GPU in use: {why}\n")

    rank.reason = "auto fell back to cpu: it does not fit"
    shown = mercato("models", "--server", server.address).stdout
    assert "no GPU in use" not in shown and why in shown and rank.reason in shown


@pytest.mark.parametrize("arguments", [(), ("shop.learned-ranking",)])
def test_names_and_states_stay_whole_at_80_columns(server: FakeServer, arguments: tuple[str, ...]) -> None:
    features = numbers("catalogue_features", "FP32", doc="A long text about these features of the catalogue.")
    version = server.offer("shop.learned-ranking", features).versions[0]
    version.reason = "a reason that is far longer than a line of the table leaves room for " * 2
    version.certificate.CopyFrom(catalog_pb2.Certificate(kind=catalog_pb2.CERTIFICATE_KIND_SELF, passed=True))
    shown = mercato("models", *arguments, "--server", server.address, width=80).stdout
    table = shown.partition("Call it from Python")[0]
    expected = ("shop.learned-ranking", "AVAILABLE", *(("catalogue_features",) if arguments else ("pricing.linear",)))
    for word in expected:
        assert word in table
    assert max(map(len, table.splitlines())) <= 80


def test_a_name_too_long_for_the_table_folds_and_is_not_cut(server: FakeServer) -> None:
    server.offer("shop." + "x" * 95, numbers("x", "FP32"))
    assert mercato("models", "--server", server.address, width=80).stdout.count("x") == 95


def test_models_shows_one_with_its_signature(server: FakeServer) -> None:
    parameter = catalog_pb2.Parameter(
        name="k", type=catalog_pb2.PARAMETER_TYPE_INT, low=1, high=100,
        default_value=prediction_pb2.ParameterValue(int_value=10),
    )  # fmt: skip
    price = numbers("price", "FP32", 3, unit="EUR", low=0.0, high=9.5, doc="Shown price.")
    model = server.offer("shop.rank", price, text("query"), label("tone", "warm", "cold"), parameters=[parameter])
    model.languages.append("en")
    model.labels["stable"] = 1
    model.versions[0].since.FromSeconds(0)
    model.versions[0].certificate.CopyFrom(catalog_pb2.Certificate(
        kind=catalog_pb2.CERTIFICATE_KIND_SELF, passed=True, errors=[catalog_pb2.OutputError(rel_l2=3e-8)]
    ))  # fmt: skip
    done = mercato("models", "shop.rank", "--server", server.address)
    for expected in (
        "[batch, 3]", "EUR; 0 to 9.5", "Shown price.", "at most 100 bytes, longer is refused", "warm, cold", "1 to 100",
        "mercato-fake 0.1.0", "stable = 1", "1970-01-01 00:00:00 UTC", "self (unproven), passed, rel l2 3.0e-08",
        "Call it from Python:",
    ):  # fmt: skip
        assert expected in done.stdout, expected
    assert (
        json.loads(mercato("models", "shop.rank", "--server", server.address, "--json").stdout)["name"] == "shop.rank"
    )
    assert mercato("models", "no.such", "--server", server.address).exit_code == 3


def test_models_tells_how_many_rows_and_how_they_are_ranked(server: FakeServer) -> None:
    version = server.offer("shop.rank", numbers("item", "INT64"), numbers("score", "FP32")).versions[0]
    version.max_rows, version.batch_rows = 1024, 64
    version.signature.top_k.CopyFrom(catalog_pb2.TopK(by="score", k="k", index="place"))
    shown = table(mercato("models", "shop.rank", "--server", server.address).stdout)
    assert shown["rows"] == "at most 1024 in a request, run in batches of at most 64"
    assert shown["answer"] == "the best k rows by score, their places in place"
    version.batch_rows = 1024
    shown = table(mercato("models", "shop.rank", "--server", server.address).stdout)
    assert shown["rows"] == "at most 1024 in a request"


def test_models_sets_the_metrics_of_versions_side_by_side(server: FakeServer) -> None:
    model = server.offer("shop.rank", numbers("item", "INT64"))
    model.versions[0].metrics.update({"f1": 0.8312345678, "rmse": 12.5})
    model.versions.add(version=2).metrics["f1"] = 0.84
    model.versions.add(version=3)
    lines = list(map(str.strip, mercato("models", "shop.rank", "--server", server.address).stdout.splitlines()))
    shown = lines[lines.index("Metrics") :]
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in shown if line.startswith(("│", "┃"))]
    assert rows == [["metric", "version 1", "version 2"], ["f1", "0.831235", "0.84"], ["rmse", "12.5", ""]]
    assert "Metrics" not in mercato("models", "pricing.linear", "--server", server.address).stdout


def test_the_call_to_paste_runs(server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    server.offer(
        "shop.everything", numbers("x", "FP32", 2, low=3.0), numbers("high", "INT64", high=-2.0), numbers("on", "BOOL"),
        numbers("vector", "FP32", 384), numbers("brain", "BF16", 16), numbers("user", "FP64", 2, shared=True),
        numbers("history", "INT64", 3, shared=True, ragged=True),
        text("query"), image("photo"), label("tone", "warm"), numbers("age", "FP32", optional=True),
    )  # fmt: skip
    connection = Connection(server.address, None, None, None)
    with connection.open() as client:
        source = example_call("shop.everything", client.signature("shop.everything"), connection)
    scope: dict[str, Any] = {}
    exec(source, scope)  # noqa: S102  (what users paste must run)
    answer = scope["answer"]
    assert answer["x"].tolist() == [[3.0, 3.0]] and answer["high"].tolist() == [-2] and answer["on"].tolist() == [True]
    assert answer["vector"].shape == (1, 384) and answer["brain"].shape == (1, 16) and answer["user"].shape == (2,)
    assert answer["photo"].tolist() == [b"\xff\xd8"] and "age" not in answer


def test_json_stays_json() -> None:
    assert jsonable({"a": np.array([np.nan, np.inf, -np.inf, 1.0])}) == {"a": ["NaN", "Infinity", "-Infinity", 1.0]}


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution that adds three commands: a function, a group, and one that cannot be imported."""
    install(tmp_path, "mercato-added", "greet = added_command:greet\nmany = added_command:many\nbroken = no_such:x\n")
    (tmp_path / "added_command.py").write_text(
        "import typer\n"
        "def greet(name: str) -> int:\n    print('hello', name)\n    return 7\n"
        "many = typer.Typer()\n"
        "@many.command()\ndef one() -> None:\n    print('one')\n"
        "@many.command()\ndef stop() -> None:\n    raise typer.Exit(5)\n"
        "@many.command()\ndef abort() -> None:\n    raise typer.Abort\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "added_command", raising=False)
    return tmp_path


def install(folder: Path, name: str, commands: str) -> None:
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[mercato.commands]\n{commands}")


@pytest.mark.usefixtures("added")
def test_added_commands_are_listed_without_being_imported() -> None:
    for done in (mercato("--help"), mercato()):
        assert done.exit_code == 0 and "Exit codes: 0 done" in done.stdout
        for expected in ("predict", "models", "greet", "many", "broken", "Added by mercato-added."):
            assert expected in done.stdout
    assert "added_command" not in sys.modules


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for commands in SHIPPED.values() for name, text in commands.items()]
)
def test_help_says_what_our_own_commands_do(name: str, text: str) -> None:
    entry = next(entry for entry in entry_points(group=GROUP) if entry.name == name)
    loaded = entry.load()
    told = loaded.info.help if isinstance(loaded, Typer) else loaded.__doc__.splitlines()[0]
    assert told == text
    assert text in mercato("--help").stdout


def test_the_table_of_help_texts_has_every_command_of_ours() -> None:
    shipped = [(entry.dist.name, entry.name) for entry in entry_points(group=GROUP) if entry.dist]
    assert sorted(shipped) == sorted((dist, name) for dist, commands in SHIPPED.items() for name in commands)


@pytest.mark.usefixtures("added")
def test_added_commands_run_with_their_own_options_and_codes() -> None:
    done = mercato("greet", "Ada")
    assert done.stdout == "hello Ada\n" and done.exit_code == 7
    assert mercato("many", "one").stdout == "one\n"
    assert mercato("many", "stop").exit_code == 5
    assert mercato("many", "abort").stderr == "mercato: aborted\n"
    assert "Usage: mercato greet" in mercato("greet", "--help").stdout


@pytest.mark.usefixtures("added")
def test_a_command_that_cannot_be_imported_names_its_distribution() -> None:
    done = mercato("broken")
    text = "mercato: command 'broken' of mercato-added cannot be loaded: No module named 'no_such'\n"
    assert done.exit_code == 1 and done.stderr == text


def test_a_command_claimed_twice_names_both_distributions(added: Path) -> None:
    install(added, "mercato-other", "greet = other:greet\n")
    done = mercato("greet", "Ada")
    expected = "command 'greet' is claimed by mercato-added and mercato-other; uninstall all but one"
    assert done.exit_code == 1 and expected in done.stderr
