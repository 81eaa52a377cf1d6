"""The metrics of a running server: the list, the page and a scrape agree, and callers cannot add to them."""

import contextlib
import io
import re
import socket
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families
from tests.docs.pages import blocks, read, sections
from tests.server.calls import PREDICT, PRICING, Stream, Wire, pricing, request
from tests.server.conftest import Start
from tests.server.gate import GATE, Gate, install
from tests.server.running import PATIENCE, Running
from tests.server.telemetry.scraping import samples, scraped, value

from mercato_server import config
from mercato_server.app import App
from mercato_server.commands.report import TextReport
from mercato_server.errors import ConfigError
from mercato_server.telemetry import exposition
from mercato_server.telemetry.exposition import MAX_SCRAPERS, MetricsPort
from mercato_server.telemetry.facts import Facts
from mercato_server.telemetry.metrics import ALL, Metric
from mercato_server.telemetry.tally import RequestTally

METHOD = PREDICT.removeprefix("/")
REFERENCE = "docs/reference/metrics.md"
OURS = re.compile(r"\b(?:mercato|process)_[a-z_]+\b")


def facts() -> Facts:
    return Facts("1.0", ("AVAILABLE",), [], [], 0, 0)


def test_a_scrape_has_every_metric_of_the_list_and_no_other(server: Running) -> None:
    found = re.findall(r"^# TYPE (\S+) (\S+)$", scraped(server.metrics_port), re.MULTILINE)
    assert dict(found) == {metric.name: metric.kind for metric in ALL}
    assert len(found) == len(ALL)


def test_samples_carry_the_labels_of_the_list(server: Running, wire: Wire) -> None:
    wire.price(1.0)
    text = scraped(server.metrics_port)
    kinds = {metric.name.removesuffix("_total"): metric for metric in ALL}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(kinds[family.name].labels), family.name


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_the_page_has_a_heading_for_each_metric_with_kind_meaning_and_labels(metric: Metric) -> None:
    section = sections(read(REFERENCE))[metric.name]
    assert section.strip().startswith(metric.help)
    assert f"- Kind: {metric.kind}" in section
    labels = re.search(r"^- Labels: (.*)$", section, re.MULTILINE)
    assert (re.findall(r"`(\w+)`", labels.group(1)) if labels else []) == list(metric.labels)


def test_the_page_has_no_other_metric() -> None:
    assert set(filter(OURS.fullmatch, sections(read(REFERENCE)))) == {metric.name for metric in ALL}


def test_every_metric_that_a_document_names_exists() -> None:
    names = {metric.name for metric in ALL}
    histograms = [metric.name for metric in ALL if metric.kind == "histogram"]
    names |= {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}
    page = read("docs/how-to/observe.md")
    queries = "".join(block.text for block in blocks(page) if block.language == "promql")
    found = {name for text in (page, queries) for name in OURS.findall(text)}
    assert OURS.findall(queries)
    assert found - names == set()


def test_requests_are_counted_by_model_version_and_code(server: Running, wire: Wire) -> None:
    ok = {"method": METHOD, "model": PRICING, "version": "1", "code": "OK"}
    before = value(server, "mercato_requests_total", **ok), value(server, "mercato_batch_rows_sum", model=PRICING)
    wire.prediction.Predict(pricing([[1.0], [2.0], [3.0]]), timeout=20)
    assert value(server, "mercato_requests_total", **ok) == before[0] + 1
    assert value(server, "mercato_batch_rows_sum", model=PRICING) == before[1] + 3
    for phase in ("queue", "preprocess", "compute", "postprocess"):
        assert value(server, "mercato_phase_seconds_sum", model=PRICING, phase=phase) > 0
    assert value(server, "mercato_request_seconds_count", method=METHOD, model=PRICING) > 0


def test_requests_inside_a_stream_are_counted_like_others(start: Start, store: Path) -> None:
    method = "mercato.v1.PredictionService/PredictStream"
    labels = [
        {"method": method, "model": PRICING, "code": "OK"},
        {"method": method, "model": "", "code": "NOT_FOUND"},
    ]
    running = start(store)
    running.ready()
    with grpc.insecure_channel(running.address) as own:
        stream = Stream(own)
        stream.send(pricing([[1.0]], request_id="a"))
        stream.send(request("no.model", request_id="b"))
        stream.next()
        assert value(running, "mercato_predict_streams_open") == 1
        stream.half_close()
        assert len(list(stream.rest())) == 1
        assert [value(running, "mercato_requests_total", **wanted) for wanted in labels] == [1, 1]
    until = time.monotonic() + PATIENCE
    while value(running, "mercato_predict_streams_open") > 0:  # its status leaves before it is gone
        assert time.monotonic() < until


def test_names_that_are_no_model_add_no_series(server: Running, wire: Wire) -> None:
    for name in ("no.model", "a" * 10_000, 'x"} 1\nforged{a="', "\x1b[2J", "红色", ""):
        wire.refused(PREDICT, request(name).SerializeToString(), metadata=(("x-request-id", "r" * 9),))
    page = scraped(server.metrics_port)
    assert not any(word in page for word in ("no.model", "aaaa", "forged", "\x1b", "红色", "rrr"))
    models = {dict(labels)["model"] for labels in samples(server, "mercato_requests_total")}
    assert models <= {"", PRICING, "semantic.encoder"}


def test_a_model_tells_its_state_and_what_it_runs_on(server: Running) -> None:
    states = samples(server, "mercato_model_state")
    held = [dict(labels)["state"] for labels, number in states.items() if number and ("model", PRICING) in labels]
    assert held == ["AVAILABLE"]
    facts = {"model": PRICING, "version": "1", "plugin": "mercato-pricing", "provider": "cpu"}
    assert value(server, "mercato_model_info", **facts) == 1
    assert value(server, "mercato_model_state_timestamp_seconds", model=PRICING) > 1.7e9


def test_what_waits_and_what_is_refused_shows(start: Start, store: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    path = install(tmp_path / "site", "test-gate", GATE)
    running = start(store, plugins=("test-gate",), GATE=str(gate.folder), PYTHONPATH=path, MERCATO_MAX_REQUESTS="2")
    running.ready()
    x = pricing([[-1.0]])
    x.model.name = "test.gate"
    with grpc.insecure_channel(running.address) as own:
        wire = Wire(own)
        first = wire.prediction.Predict.future(x, timeout=60)
        gate.reached("run")
        second = wire.prediction.Predict.future(x, timeout=60)
        while value(running, "mercato_requests_in_flight", model="test.gate") < 2:
            assert not second.done()
        assert wire.refused(PREDICT, x.SerializeToString()).code is StatusCode.RESOURCE_EXHAUSTED
        assert value(running, "mercato_queue_depth", model="test.gate") == 1
        assert value(running, "mercato_request_bytes_in_flight", model="test.gate") > 0
        assert value(running, "mercato_requests_total", model="test.gate", code="RESOURCE_EXHAUSTED") == 1
        gate.open("run")
        gate.open("run")
        assert [call.result().model.name for call in (first, second)] == ["test.gate"] * 2
    gate.close()


def test_a_model_on_its_way_tells_so_and_is_named_in_what_is_refused(start: Start, store: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    path = install(tmp_path / "site", "test-gate", GATE)
    running = start(store, plugins=("test-gate",), GATE=str(gate.folder), PYTHONPATH=path, GATE_LOAD="1").listening()
    gate.reached("load")
    with grpc.insecure_channel(running.address) as own:
        refused = Wire(own).refused(PREDICT, request("test.gate").SerializeToString())
    assert refused.code is StatusCode.UNAVAILABLE
    assert value(running, "mercato_requests_total", model="test.gate", version="", code="UNAVAILABLE") == 1
    assert value(running, "mercato_model_state", model="test.gate", state="LOADING") == 1
    assert samples(running, "mercato_queue_depth") == {}
    gate.open("load")
    running.ready()
    gate.close()


def test_off_opens_no_port(start: Start, store: Path) -> None:
    running = start(store, "--metrics-listen", "off")
    running.ready()
    assert running.metrics_port is None


def test_a_taken_port_is_a_refusal_that_names_the_setting(start: Start, store: Path, server: Running) -> None:
    refused = start(store, "--metrics-listen", f"127.0.0.1:{server.metrics_port}")
    assert refused.ended() == 1
    assert "metrics_listen: cannot listen on 127.0.0.1:" in refused.log


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.param("[::1]:0", marks=pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here"))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", IPV6])
def test_the_port_closes_and_its_thread_ends(listen: str) -> None:
    host = listen.rpartition(":")[0]
    port = MetricsPort(listen, RequestTally(), facts)
    assert "mercato_server_info" in scraped(port.port, host)
    port.close()
    assert "metrics" not in [thread.name for thread in threading.enumerate()]
    again = MetricsPort(f"{host}:{port.port}", RequestTally(), facts)
    again.close()


def test_a_scraper_that_says_nothing_holds_up_nobody() -> None:
    port = MetricsPort("127.0.0.1:0", RequestTally(), facts)
    with socket.create_connection(("127.0.0.1", port.port)):
        assert "mercato_server_info" in scraped(port.port)
        port.close()


def test_scrapers_that_say_nothing_are_bounded() -> None:
    port = MetricsPort("127.0.0.1:0", RequestTally(), facts)
    with contextlib.ExitStack() as opened:
        for _ in range(MAX_SCRAPERS):
            opened.enter_context(socket.create_connection(("127.0.0.1", port.port)))
        one_more = opened.enter_context(socket.create_connection(("127.0.0.1", port.port), timeout=5.0))
        assert one_more.recv(1) == b""
        port.close()


def test_a_scraper_that_drips_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "SCRAPE_SECONDS", 0.3)
    port = MetricsPort("127.0.0.1:0", RequestTally(), facts)
    with socket.create_connection(("127.0.0.1", port.port), timeout=0.05) as connection:
        until = time.monotonic() + 5
        while dripped(connection):
            assert time.monotonic() < until, "it is never cut off"
    port.close()


def dripped(connection: socket.socket) -> bool:
    """Send one byte more of a header; false once the other side has closed."""
    try:
        connection.send(b"G")
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="metrics_listen: cannot listen on 203.0.113.1:0"):
        MetricsPort("203.0.113.1:0", RequestTally(), facts)


async def test_the_report_for_people_tells_the_address(tmp_path: Path) -> None:
    settings = config.load(store=tmp_path, metrics_listen="[::1]:0", provider="cpu")
    app, out = App(settings, lambda name, progress: None), io.StringIO()
    report = TextReport(app, out, settings)
    report.listening(1)
    assert "metrics" not in out.getvalue()
    app.metrics_port = 2
    report.listening(1)
    assert out.getvalue().endswith("\nmetrics on http://[::1]:2/metrics\n")
