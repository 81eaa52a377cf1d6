"""`mercato demo`: train on a made-up shop, serve, call as a client would, show what came back, stop."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mercato_client import Client, Prediction
from mercato_client.cli.tables import certificate_text
from mercato_server.commands import tables
from mercato_server.commands.demo_shop import LEFT_OUT, QUESTIONS, Language, trained
from mercato_server.commands.failure import fail
from mercato_server.errors import StartupError

QUERY = "red running shoes"
NEAR = "crimson sneakers"
FAR = "stainless steel kettle"
DEADLINE = 30.0
COLUMNS = ("queue", "pre", "run", "post", "rows", "pad", "left", "on")
"""Of the receipts; short, so that a line holds them all."""


def command(
    language: Annotated[Language, typer.Option(help="Of the shop whose models are trained: en or zh.")] = "en",
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train models on a small made-up shop, export, serve and call them with the others, and stop."""
    with tempfile.TemporaryDirectory(prefix="mercato-demo-") as folder:
        metrics = _trained(Path(folder), language)
        started = time.monotonic()
        with _server(Path(folder) / "models") as port, Client(f"127.0.0.1:{port}", timeout=DEADLINE) as client:
            ready = time.monotonic() - started
            report = _report(client, language) | {"seconds_to_serving": round(ready, 1), "metrics": metrics}
    if json_output:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _show(report)


def _trained(folder: Path, language: Language) -> dict[str, dict[str, float]]:
    try:
        return trained(folder, language)
    except StartupError as error:
        fail("demo", error)
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from None


def _certificate(client: Client, name: str) -> str:
    served = client.model(name).choose()
    return certificate_text(served.certificate if served else None)


@contextmanager
def _server(models_dir: Path) -> Iterator[int]:
    """A server process of its own on a free loopback port; its progress bars go to this terminal."""
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "off", "--admin-listen", "off")
    command = [sys.executable, "-m", "mercato_server", "--json", *ports, "--strict", "--models-dir", str(models_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  (our own server)
        try:
            yield _ready_port(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _ready_port(process: subprocess.Popen[str]) -> int:
    """Read the server's events until it is ready. Exits with the server's own message when it gives up."""
    assert process.stdout is not None
    port = 0
    for line in process.stdout:
        event = json.loads(line)
        port = event.get("port", port)
        if event["event"] == "ready":
            return int(port)
    raise typer.Exit(process.wait() or 1)


def _report(client: Client, language: Language) -> dict[str, Any]:
    price = client.predict("pricing.linear", {"x": [[4.0]]}, receipt=True)
    texts = client.predict("semantic.encoder", {"text": [QUERY, NEAR, FAR]}, receipt=True)
    asked = [(q, client.predict(q.model, q.inputs, receipt=True)) for q in QUESTIONS[language]]
    query, near, far = np.asarray(texts["embedding"])
    answers: dict[str, Any] = {
        "pricing.linear: y for x = 4": round(float(price["y"][0, 0]), 4),
        f"semantic.encoder: {QUERY!r} and {NEAR!r}": round(float(query @ near), 3),
        f"semantic.encoder: {QUERY!r} and {FAR!r}": round(float(query @ far), 3),
    }
    answers |= {f"{q.model}: {q.text}": _plain(answer[q.output][0]) for q, answer in asked}
    last = {answer.model.name: answer for answer in (price, texts, *(answer for _, answer in asked))}
    return {
        "answers": answers,
        "certificates": {name: _certificate(client, name) for name in last},
        "receipts": {name: _receipt(answer) for name, answer in last.items()},
        "left_out": LEFT_OUT[language],
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else round(float(value), 1)


def _receipt(answer: Prediction) -> dict[str, str]:
    receipt = answer.receipt
    assert receipt is not None
    times = {name: getattr(receipt, f"{name}_ns") / 1e6 for name in ("queue", "pre", "compute", "post")}
    return {
        **{f"{name} ms": f"{value:.2f}" for name, value in times.items()},
        "rows": str(receipt.batch_rows),
        "padding": f"{receipt.padding:.0%}",
        "left": receipt.release_reason,
        "provider": receipt.provider,
    }


def _show(report: dict[str, Any]) -> None:
    print(f"serving after {report['seconds_to_serving']} s")
    for title in ("answers", "certificates"):
        tables.show(("", ""), [(name, str(value)) for name, value in report[title].items()], title=title)
    scores = [_score(model, metrics) for model, metrics in report["metrics"].items()]
    tables.show(("", "metric", "held-out rows", "baseline"), scores, title="trained on the shop")
    receipts = report["receipts"]
    rows = [(name, *receipt.values()) for name, receipt in receipts.items()]
    tables.show(("", *COLUMNS), rows, title="receipts, times in milliseconds")
    for model, why in report["left_out"].items():
        print(f"{model} is left out: {why}")


def _score(model: str, metrics: dict[str, float]) -> tuple[str, ...]:
    name = next(name for name in ("accuracy", "r2") if name in metrics)
    return model, name, f"{metrics[name]:.2f}", f"{metrics[f'baseline_{name}']:.2f}"
