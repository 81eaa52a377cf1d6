"""`mercato demo`: serve the reference models, call them as a client would, show what came back, stop."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import typer

from mercato_client import Client, Prediction
from mercato_client.cli.tables import certificate_text
from mercato_server.commands import tables

QUERY = "red running shoes"
NEAR = "crimson sneakers"
FAR = "stainless steel kettle"
DEADLINE = 30.0


def command(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Export, serve and call pricing.linear and semantic.encoder, print answers, certificates and receipts."""
    started = time.monotonic()
    with _server() as port, Client(f"127.0.0.1:{port}", timeout=DEADLINE) as client:
        ready = time.monotonic() - started
        price = client.predict("pricing.linear", {"x": [[4.0]]}, receipt=True)
        texts = client.predict("semantic.encoder", {"text": [QUERY, NEAR, FAR]}, receipt=True)
        certificates = {answer.model.name: _certificate(client, answer.model.name) for answer in (price, texts)}
    report = _report(price, texts, certificates, ready)
    if json_output:
        print(json.dumps(report, indent=2))
    else:
        _show(report)


def _certificate(client: Client, name: str) -> str:
    served = client.model(name).choose()
    return certificate_text(served.certificate if served else None)


@contextmanager
def _server() -> Iterator[int]:
    """A server process of its own on a free loopback port; its progress bars go to this terminal."""
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "off", "--admin-listen", "off")
    command = [sys.executable, "-m", "mercato_server", "--json", *ports, "--strict"]
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


def _report(price: Prediction, texts: Prediction, certificates: dict[str, str], ready: float) -> dict[str, Any]:
    query, near, far = np.asarray(texts["embedding"])
    return {
        "seconds_to_serving": round(ready, 1),
        "answers": {
            "pricing.linear: y for x = 4": round(float(price["y"][0, 0]), 4),
            f"semantic.encoder: {QUERY!r} and {NEAR!r}": round(float(query @ near), 3),
            f"semantic.encoder: {QUERY!r} and {FAR!r}": round(float(query @ far), 3),
        },
        "certificates": certificates,
        "receipts": {answer.model.name: _receipt(answer) for answer in (price, texts)},
    }


def _receipt(answer: Prediction) -> dict[str, str]:
    receipt = answer.receipt
    assert receipt is not None
    times = {name: getattr(receipt, f"{name}_ns") / 1e6 for name in ("queue", "pre", "compute", "post")}
    return {
        **{f"{name} ms": f"{value:.3f}" for name, value in times.items()},
        "rows": str(receipt.batch_rows),
        "padding": f"{receipt.padding:.0%}",
        "left": receipt.release_reason,
        "provider": receipt.provider,
    }


def _show(report: dict[str, Any]) -> None:
    print(f"serving after {report['seconds_to_serving']} s")
    for title in ("answers", "certificates"):
        tables.show(("", ""), [(name, str(value)) for name, value in report[title].items()], title=title)
    receipts = report["receipts"]
    facts = [(name, *(receipt[name] for receipt in receipts.values())) for name in next(iter(receipts.values()))]
    tables.show(("", *receipts), facts, title="receipts")
