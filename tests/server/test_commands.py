"""The server's commands as a shell sees them: documents on standard output, one line of refusal on standard error."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import blocks, read
from tests.server.gate import GATE, install
from tests.server.running import MERCATO

Demo = dict[str, Any]


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


def test_an_untrained_model_that_defines_train_is_told_how_to_train_it(tmp_path: Path) -> None:
    done = run("plugins", "--models-dir", str(tmp_path), "--json", MERCATO_PLUGINS_ALLOW='["mercato-pricing"]')

    (pricing,) = (row for row in json.loads(done.stdout) if row["plugin"] == "mercato-pricing")
    assert (pricing["state"], pricing["untrained"]) == ("LOADED", ["pricing.demand"])
    assert pricing["reason"] == "pricing.demand: untrained; mercato train pricing.demand --data ..."


@pytest.fixture(scope="module")
def demos(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Demo]:
    """What the demo reports in each language; both run at once, as each works on one core most of the time."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "mercato").symlink_to(store)
    running = {language: start("demo", "--language", language, "--json", cache=cache) for language in ("en", "zh")}
    ended = {language: (process.communicate(), process.returncode) for language, process in running.items()}
    for (_, errors), code in ended.values():
        assert code == 0, errors
    return {language: json.loads(output) for language, ((output, _), _) in ended.items()}


def start(*arguments: str, cache: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen([MERCATO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.mark.parametrize(
    ("language", "answers"),
    [
        ("en", {"reviews.sentiment": ["negative", "positive"], "reviews.intent": ["order_status"]}),
        ("zh", {"reviews.sentiment": ["negative", "positive"]}),
    ],
)
def test_the_demo_trains_on_a_shop_and_answers_with_every_model_certified(
    demos: dict[str, Demo], language: str, answers: dict[str, list[str]]
) -> None:
    report = demos[language]
    price, near, far, dear, cheap, *words = report["answers"].values()
    assert abs(price - 8.0) < 0.01
    assert near > far
    assert cheap > dear > 0
    assert words == [word for given in answers.values() for word in given]
    assert report["metrics"]["pricing.demand"]["r2"] > 0.4
    assert report["metrics"]["reviews.sentiment"]["accuracy"] > 0.7
    assert len(report["certificates"]) == 4 + ("reviews.intent" in answers)
    assert all(text.startswith("source, passed") for text in report["certificates"].values())
    assert ("reviews.intent" in report["left_out"]) is ("reviews.intent" not in answers)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_demo_prints_what_the_page_shows(demos: dict[str, Demo], page: str) -> None:
    """Numbers as near as another processor gives them: labels to the letter, certificates as passed."""
    report = demos["en"]
    (shown,) = [block.text for block in blocks(read(page)) if "serving after" in block.text]
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in shown.splitlines()
        if line[0] == "│" and "┃" not in line
    ]
    assert {len(row) for row in rows} == {2, 4}
    for name, *cells in rows:
        if name in report["answers"]:
            assert same(cells[0], report["answers"][name]), name
        elif len(cells) == 1:
            assert cells[0].startswith("source, passed, ") and name in report["certificates"]
        else:
            metric, value, baseline = cells
            metrics = report["metrics"][name]
            assert float(value) == pytest.approx(metrics[metric], abs=0.02), name
            assert float(baseline) == pytest.approx(metrics[f"baseline_{metric}"], abs=0.02), name


def same(shown: str, given: str | float) -> bool:
    return shown == given if isinstance(given, str) else float(shown) == pytest.approx(given, rel=0.02, abs=0.002)


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
