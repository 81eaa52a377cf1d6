"""The server's commands as a shell sees them: documents on standard output, one line of refusal on standard error."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.server.gate import GATE, install
from tests.server.running import MERCATO


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(MERCATO), *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_what_a_plugin_prints_stays_out_of_the_json(tmp_path: Path) -> None:
    site = install(tmp_path, "mercato-gate", GATE)

    done = run("plugins", "--json", PYTHONPATH=site, GATE=str(tmp_path), MERCATO_PLUGINS_ALLOW='["mercato-gate"]')

    (gate,) = (row for row in json.loads(done.stdout) if row["plugin"] == "mercato-gate")
    assert (gate["state"], gate["models"]) == ("LOADED", ["test.gate"])
    assert "plugins may print" in done.stderr


@pytest.mark.parametrize(
    ("language", "answers"),
    [
        ("en", {"reviews.sentiment": ["negative", "positive"], "reviews.intent": ["order_status"]}),
        ("zh", {"reviews.sentiment": ["negative", "positive"]}),
    ],
)
def test_the_demo_trains_on_a_shop_and_answers_with_every_model_certified(
    store: Path, tmp_path: Path, language: str, answers: dict[str, list[str]]
) -> None:
    (tmp_path / "mercato").symlink_to(store)

    done = run("demo", "--language", language, "--json", XDG_CACHE_HOME=str(tmp_path))

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    price, near, far, dear, cheap, *words = report["answers"].values()
    assert abs(price - 8.0) < 0.01
    assert near > far
    assert cheap > dear > 0
    assert words == [word for given in answers.values() for word in given]
    assert report["metrics"]["pricing.demand"]["r2"] > 0.4
    assert report["metrics"]["reviews.sentiment"]["accuracy"] > 0.7
    assert len(report["certificates"]) == 4 + ("reviews.intent" in answers)
    assert all(text.startswith("source, passed") for text in report["certificates"].values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serve", "--isolation", "thread"), "isolation: Input should be 'process' or 'inline'"),
        (("serve", "--provider", "tpu"), "provider"),
        (("serve", "--listen", "127.0.0.1"), "listen: got '127.0.0.1', expected host:port"),
        (("serve", "--listen", "127.0.0.1:99999"), "a port from 0 to 65535"),
        (("serve", "--listen", "127.0.0.1:-1"), "a port from 0 to 65535"),
        (("serve", "--listen", "0.0.0.0:0"), "set tls_cert and tls_key, or allow it with insecure = true (--insecure)"),
        (("serve", "--tls-cert", "cert.pem"), "tls_cert is set without tls_key"),
        (("export", "no.model"), "model 'no.model' is not installed"),
        (("certificate", "no.model"), "model 'no.model' is not installed"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = run(*arguments, XDG_CACHE_HOME=str(tmp_path))

    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
