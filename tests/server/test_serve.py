"""A server's life in real processes: what it tells while it serves, how it starts, and how it ends."""

import json
import os
import select
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.server.calls import PREDICT, PRICING, SEMANTIC, Stream, Wire, failed, pricing, request, tensor, texts
from tests.server.conftest import Start
from tests.server.gate import GATE, Gate, install
from tests.server.running import PATIENCE, Running, environment

from mercato.v1 import catalog_pb2, prediction_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OTHER = (("x-request-id", "other"),)
GATED = "test.gate"


def model(wire: Wire, name: str) -> catalog_pb2.Model:
    reference = prediction_pb2.ModelRef(name=name)
    return wire.catalog.GetModel(catalog_pb2.GetModelRequest(model=reference), timeout=20).model


def gated(x: float, **facts: str) -> prediction_pb2.PredictRequest:
    return request(GATED, tensor("x", data=np.float32(x).tobytes()), **facts)


# --- what a running server tells --------------------------------------------------------------------------------------


def test_health_tells_of_the_server_and_of_every_model(wire: Wire) -> None:
    assert wire.serving() and wire.serving(PRICING) and wire.serving(SEMANTIC)
    listed = wire.health.List(health_pb2.HealthListRequest(), timeout=20).statuses
    assert {name: answer.status for name, answer in listed.items()} == {
        "": SERVING,
        PRICING: SERVING,
        SEMANTIC: SERVING,
    }


@pytest.mark.parametrize(("service", "status"), [("", SERVING), (PRICING, SERVING), ("no.model", UNKNOWN)])
def test_watch_begins_with_the_state_of_now(wire: Wire, service: str, status: int) -> None:
    watch = wire.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)
    assert next(watch).status == status
    watch.cancel()


def test_reflection_lists_the_services_and_describes_them(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    names = ("mercato.v1.PredictionService", "mercato.v1.CatalogService", "grpc.health.v1.Health")
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    listed, *described = stub.ServerReflectionInfo(iter(asked), timeout=20)
    assert set(names) < {service.name for service in listed.list_services_response.service}
    for name, answer in zip(names, described, strict=True):
        files = [FileDescriptorProto.FromString(f) for f in answer.file_descriptor_response.file_descriptor_proto]
        assert name.rpartition(".")[2] in {service.name for file in files for service in file.service}


def test_catalog_tells_all_of_a_model(wire: Wire, server: Running) -> None:
    listed = wire.catalog.ListModels(catalog_pb2.ListModelsRequest(), timeout=20).models
    assert [item.name for item in listed] == [PRICING, SEMANTIC]
    assert listed[0] == model(wire, PRICING)
    plugin, [version] = listed[0].plugin, listed[0].versions
    assert (plugin.distribution, plugin.version) == ("mercato-pricing", "0.1.0")
    assert (version.version, version.state) == (1, catalog_pb2.MODEL_STATE_AVAILABLE)
    assert (version.max_rows, version.batch_rows) == (1024, 64)
    assert len(version.digest) == 64 and version.since.seconds > 1_600_000_000
    [x], [y] = version.signature.inputs, version.signature.outputs
    assert (x.name, x.unit, x.finite, [axis.max or axis.size for axis in x.axes]) == ("x", "items", True, [1024, 1])
    assert (y.name, len(version.signature.fingerprint)) == ("y", 64)


@pytest.mark.parametrize("name", [PRICING, SEMANTIC])
def test_the_certificate_is_against_the_source(wire: Wire, name: str) -> None:
    [version] = model(wire, name).versions
    certificate = version.certificate
    assert certificate.kind == catalog_pb2.CERTIFICATE_KIND_SOURCE
    assert certificate.passed and certificate.cases > 0 and "torch" in certificate.tools
    assert all(error.rel_l2 <= error.tolerance for error in certificate.errors)


def test_the_catalog_says_why_there_is_no_gpu(wire: Wire) -> None:
    [version] = model(wire, PRICING).versions
    if version.providers[0] != "cpu":
        pytest.skip("a GPU is used here")
    assert version.reason.startswith("auto fell back to cpu: ")


def test_texts_that_mean_the_same_are_near(wire: Wire) -> None:
    words = texts(b"red running shoes", b"crimson sneakers", b"stainless steel kettle", want_receipt=True)
    answer = wire.prediction.Predict(words, timeout=20)
    shoes, sneakers, kettle = np.frombuffer(answer.outputs[0].tensor.data, np.float32).reshape(3, 384)
    assert shoes @ sneakers > shoes @ kettle
    assert np.linalg.norm(shoes) == pytest.approx(1, abs=1e-5)


def test_the_receipt_tells_the_facts_of_the_run(wire: Wire) -> None:
    answer = wire.prediction.Predict(pricing([[4.0], [5.0]], want_receipt=True), timeout=20)
    receipt = answer.receipt
    assert (receipt.batch_rows, receipt.provider, receipt.padding) == (2, "cpu", 0.0)
    assert receipt.release_reason == prediction_pb2.RELEASE_REASON_IDLE
    assert min(receipt.queue_ns, receipt.pre_ns, receipt.compute_ns, receipt.post_ns) > 0
    assert not wire.prediction.Predict(pricing([[4.0]]), timeout=20).HasField("receipt")


def test_the_answer_names_the_version_and_the_artifact(wire: Wire) -> None:
    served = wire.prediction.Predict(pricing([[4.0]]), timeout=20).model
    assert served == prediction_pb2.ServedModel(name=PRICING, version=1, digest=model(wire, PRICING).versions[0].digest)


def test_a_request_id_is_answered_and_made_where_there_is_none(wire: Wire) -> None:
    given = pricing([[4.0]], request_id="mine")
    assert wire.prediction.Predict(given, timeout=20, metadata=OTHER).request_id == "mine"
    assert wire.prediction.Predict(pricing([[4.0]]), metadata=OTHER).request_id == "other"
    made = {wire.prediction.Predict(pricing([[4.0]]), timeout=20).request_id for _ in range(3)}
    assert len(made) == 3 and "" not in made


@pytest.mark.parametrize(
    ("method", "data"),
    [(PREDICT, request("no.model")), (PREDICT, b"\xff"), ("/mercato.v1.CatalogService/GetModel", b"")],
    ids=["Predict", "malformed", "GetModel"],
)
def test_errors_echo_the_request_id(wire: Wire, method: str, data: prediction_pb2.PredictRequest | bytes) -> None:
    sent = data if isinstance(data, bytes) else data.SerializeToString()
    assert wire.refused(method, sent, metadata=[("x-request-id", "mine")]).trailing["x-request-id"] == "mine"
    assert wire.refused(method, sent).trailing["x-request-id"] not in ("", "mine")


# --- a start with a filled store --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that finds everything in the store; SIGINT ends it like SIGTERM."""
    folder = tmp_path_factory.mktemp("second")
    labels = json.dumps({PRICING: {"labels": {"stable": 1, "canary": 9}}})
    running = Running(store, folder, environment(folder / "home", MERCATO_MODELS=labels))
    try:
        running.ready()
        yield running
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 0
    finally:
        running.kill()


def test_no_torch_enters_a_serving_process(server: Running, second: Running) -> None:
    """Neither the one that had its models exported, nor the one that found them."""
    for running in (server, second):
        mapped = [Path(f"/proc/{pid}/maps").read_text() for pid in (running.pid, *running.children())]
        assert ["onnxruntime" in maps for maps in mapped] == [False, True, True]
        for tool in ("libtorch", "/torch/", "/onnx/", "/sklearn/"):
            assert not [maps for maps in mapped if tool in maps]


def test_a_filled_store_needs_no_export_process(second: Running) -> None:
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in second.children()]
    assert [command[3] for command in commands] == [b"mercato_server.runtime"] * 2


def test_nothing_is_written_into_the_home_folder(server: Running, second: Running) -> None:
    for running in (server, second):
        assert list(running.home.rglob("*")) == []


def test_labels_choose_a_version(second: Running) -> None:
    with grpc.insecure_channel(second.address) as channel:
        wire = Wire(channel)
        assert wire.price(4.0) == pytest.approx(8.0, abs=0.01)
        assert dict(model(wire, PRICING).labels) == {"stable": 1, "canary": 9}
        stale = pricing([[4.0]])
        stale.model.label = "canary"
        got = wire.refused(PREDICT, stale.SerializeToString())
        assert (got.code, got.reason) == (StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
        assert "9" in got.text


def test_a_damaged_file_is_exported_again(store: Path, start: Start, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "store")
    [made] = [path.parent for path in copy.glob("objects/*/spec.json") if PRICING in path.read_text()]
    [graph] = made.glob("graphs/*.onnx")
    content = graph.read_bytes()
    graph.chmod(0o644)
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    [item] = start(copy).ready()["models"]
    assert (item["model"], item["state"]) == (PRICING, "AVAILABLE")
    assert content in [path.read_bytes() for path in copy.glob("objects/*/graphs/*.onnx")]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_a_refusal(server: Running, store: Path, start: Start) -> None:
    refused = start(store, listen=server.address)
    assert refused.ended() == 1
    assert f"cannot listen on {server.address}: the port is taken" in " ".join(refused.log.split())


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU may come up here")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_come_up_is_a_refusal(store: Path, start: Start, provider: str) -> None:
    refused = start(store, "--provider", provider)
    assert refused.ended() == 1
    assert f"provider '{provider}' does not come up: there is no NVIDIA driver" in " ".join(refused.log.split())


def test_strict_refuses_a_broken_plugin_and_names_it(store: Path, start: Start, tmp_path: Path) -> None:
    path = install(tmp_path / "site", "mercato-broken", "import no_such_module\n")
    refused = start(store, "--strict", plugins=("mercato-pricing", "mercato-broken"), PYTHONPATH=path)
    assert refused.ended() == 1
    log = " ".join(refused.log.split())
    assert "refusing to serve (strict): mercato-broken" in log and "no_such_module" in log


def test_strict_takes_the_operators_own_lists_as_meant(store: Path, start: Start, tmp_path: Path) -> None:
    """A plugin that is not on the allow list is no fault; without strict a broken one is only listed."""
    path = install(tmp_path / "site", "mercato-broken", "import no_such_module\n")
    assert start(store, "--strict", PYTHONPATH=path).ready()["models"][0]["state"] == "AVAILABLE"
    ready = start(store, plugins=("mercato-pricing", "mercato-broken"), PYTHONPATH=path).ready()
    assert ready["models"][0]["state"] == "AVAILABLE"
    assert {"mercato-broken": "IMPORT_FAILED"}.items() <= {
        refusal["plugin"]: refusal["code"] for refusal in ready["refused_plugins"]
    }.items()


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.close()


@pytest.fixture(scope="session")
def gate_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled by the first server of the gate that starts."""
    return tmp_path_factory.mktemp("gate") / "store"


@pytest.fixture(scope="session")
def gate_site(tmp_path_factory: pytest.TempPathFactory) -> str:
    return install(tmp_path_factory.mktemp("gate-site"), "mercato-gate", GATE)


def test_sigterm_answers_what_was_accepted(start: Start, gate: Gate, gate_store: Path, gate_site: str) -> None:
    running = start(gate_store, plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder))
    assert running.ready()["models"][0]["state"] == "AVAILABLE"
    with grpc.insecure_channel(running.address) as channel:
        wire = Wire(channel)
        watches = [wire.health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", GATED, "no.model")]
        assert [next(watch).status for watch in watches] == [SERVING, SERVING, UNKNOWN]
        in_flight = wire.prediction.Predict.future(gated(-1), timeout=PATIENCE)
        gate.reached("run")
        queued = wire.prediction.Predict.future(gated(2), timeout=PATIENCE)
        assert wire.serving()  # answered after `queued` was read: one connection keeps its order

        running.terminate()
        assert [next(watch).status for watch in watches[:2]] == [NOT_SERVING, NOT_SERVING]
        late = wire.refused(PREDICT, gated(3).SerializeToString())
        assert (late.code, late.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
        with pytest.raises(grpc.RpcError) as caught:
            next(wire.health.Watch(health_pb2.HealthCheckRequest(), timeout=20))
        assert failed(caught.value).code is StatusCode.UNAVAILABLE

        gate.open("run")
        for call, x in ((in_flight, -1), (queued, 2)):
            assert np.frombuffer(call.result().outputs[0].tensor.data, np.float32) == x
        for watch in watches:
            assert next(watch, None) is None
            assert watch.code() is StatusCode.OK
    assert running.ended() == 0
    assert "Traceback" not in running.log


def test_sigterm_answers_what_a_stream_holds_and_ends_it(
    start: Start, gate: Gate, gate_store: Path, gate_site: str
) -> None:
    running = start(gate_store, plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder))
    running.ready()
    with grpc.insecure_channel(running.address) as channel:
        watch = Wire(channel).health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        stream = Stream(channel)
        stream.send(gated(-1, request_id="accepted"))
        gate.reached("run")
        running.terminate()
        assert next(watch).status == NOT_SERVING
        stream.send(gated(2, request_id="late"))
        late = stream.next()
        assert late.request_id == "late"
        assert late.error.code == StatusCode.UNAVAILABLE.value[0]
        gate.open("run")
        assert stream.next().ok.request_id == "accepted"
        with pytest.raises(grpc.RpcError) as caught:
            stream.next()
    assert failed(caught.value).reason == "DRAINING"
    assert running.ended() == 0


def test_a_run_that_never_ends_does_not_hold_the_end_up(
    start: Start, gate: Gate, gate_store: Path, gate_site: str
) -> None:
    running = start(
        gate_store, plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder), MERCATO_DRAIN_SECONDS="0.1"
    )
    running.ready()
    with grpc.insecure_channel(running.address) as channel:
        stuck = Wire(channel).prediction.Predict.future(gated(-1), timeout=PATIENCE)
        gate.reached("run")
        running.terminate()
        assert running.ended() == 0
        error = stuck.exception()
    got = failed(error)
    assert (got.code, got.reason) == (StatusCode.UNAVAILABLE, "DRAINING")


def test_a_second_sigterm_gives_up_what_is_in_flight(
    start: Start, gate: Gate, gate_store: Path, gate_site: str
) -> None:
    running = start(gate_store, plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder))
    running.ready()
    with grpc.insecure_channel(running.address) as channel:
        watch = Wire(channel).health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        stuck = Wire(channel).prediction.Predict.future(gated(-1), timeout=PATIENCE)
        gate.reached("run")
        running.terminate()
        assert next(watch).status == NOT_SERVING
        running.terminate()
        assert running.process.wait(20) == 0
        got = failed(stuck.exception())
    assert (got.code, got.reason) == (StatusCode.UNAVAILABLE, "DRAINING")


def test_models_run_in_threads_of_the_server_where_the_operator_wants_it(store: Path, start: Start) -> None:
    running = start(store, "--isolation", "inline")
    running.ready()
    assert running.children() == [] and "onnxruntime" in running.maps()
    with grpc.insecure_channel(running.address) as channel:
        assert Wire(channel).price(4.0) == pytest.approx(8.0, abs=0.01)


def test_a_server_that_starts_answers_probes_and_ends_its_export(
    start: Start, gate: Gate, gate_site: str, tmp_path: Path
) -> None:
    running = start(
        tmp_path / "empty", plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder), GATE_BUILD="1"
    ).listening()
    building = gate.reached("build")
    exporting = os.pidfd_open(building)
    with grpc.insecure_channel(running.address) as channel:
        wire = Wire(channel)
        assert not wire.serving() and not wire.serving(GATED)
        assert model(wire, GATED).versions[0].state == catalog_pb2.MODEL_STATE_EXPORTING
        got = wire.refused(PREDICT, gated(1).SerializeToString())
        assert (got.code, got.reason) == (StatusCode.UNAVAILABLE, "MODEL_NOT_READY")
    worker, export = running.children()
    assert export == building

    running.terminate()
    assert running.ended() == 0
    ended, _, _ = select.select([exporting], [], [], 0)
    os.close(exporting)
    assert ended
    assert not Path(f"/proc/{worker}").exists()


def test_sigterm_while_a_model_loads(start: Start, gate: Gate, gate_store: Path, gate_site: str) -> None:
    running = start(gate_store, plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder), GATE_LOAD="1")
    assert [gate.reached("load")] == running.children()
    running.terminate()
    assert running.ended() == 0
    assert "Traceback" not in running.log


def test_an_export_ends_with_a_server_that_was_killed(start: Start, gate: Gate, gate_site: str, tmp_path: Path) -> None:
    running = start(
        tmp_path / "empty", plugins=("mercato-gate",), PYTHONPATH=gate_site, GATE=str(gate.folder), GATE_BUILD="1"
    )
    exporting = os.pidfd_open(gate.reached("build"))
    running.kill()
    ended, _, _ = select.select([exporting], [], [], PATIENCE)
    os.close(exporting)
    assert ended
