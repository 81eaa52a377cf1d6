"""The façade against a real server: signatures, deadlines, answers and health."""

import time

import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.client.fake import Failure, FakeServer, image, numbers, text

from mercato.v1 import catalog_pb2, prediction_pb2
from mercato_client import Client, Health, InvalidInput, NotFound, NotReady, StaleSchema, TopK, Unavailable
from mercato_client.errors import DeadlineExceeded


def test_an_answer_is_a_mapping_of_arrays(client: Client) -> None:
    answer = client.predict("pricing.linear", {"x": [[4.0]]})
    assert dict(answer)["x"].tolist() == [[4.0]] and answer["x"].dtype == np.float32
    assert (answer.model.name, answer.model.version, answer.model.digest) == ("pricing.linear", 1, "d1")
    assert answer.request_id == "r-1" and answer.receipt is None and len(answer) == 1
    assert repr(answer) == "Prediction(pricing.linear v1, x: float32[1, 1])"


def test_one_get_model_serves_all_calls(client: Client, server: FakeServer) -> None:
    for _ in range(3):
        client.predict("pricing.linear", {"x": np.ones((1, 1), np.float32)})
    assert server.described == 1 and len(server.requests) == 3


def test_every_argument_travels(client: Client, server: FakeServer) -> None:
    server.offer("shop.rank", numbers("x", "FP32"), parameters=[
        catalog_pb2.Parameter(name="alpha", type=catalog_pb2.PARAMETER_TYPE_FLOAT),
    ])  # fmt: skip
    client.predict(
        "shop.rank", {"x": 1.0}, version=1, outputs="x", priority=2, receipt=True,
        parameters={"alpha": 1, "k": np.int64(3), "deep": True, "mode": "fast"},
    )  # fmt: skip
    sent = server.requests[0]
    assert sent.model.version == 1 and list(sent.outputs) == ["x"] and sent.priority == 2 and sent.want_receipt
    assert sent.schema_fingerprint == "f1"
    assert {name: value.WhichOneof("kind") for name, value in sent.parameters.items()} == {
        "alpha": "float_value", "k": "int_value", "deep": "bool_value", "mode": "string_value",
    }  # fmt: skip


def test_a_parameter_of_no_known_type_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"parameters\.k: got list, expected bool, int of 64 bits, float or str"):
        client.predict("pricing.linear", {"x": 1.0}, parameters={"k": [1]})


def test_the_receipt_is_read(client: Client, server: FakeServer) -> None:
    server.receipt = prediction_pb2.Receipt(
        queue_ns=5, batch_rows=3, padding=0.5, release_reason=prediction_pb2.RELEASE_REASON_JOINED, provider="cpu",
        truncations=[prediction_pb2.Truncation(input="x", rows=2)],
    )  # fmt: skip
    receipt = client.predict("pricing.linear", {"x": 1.0}, receipt=True).receipt
    assert receipt is not None and (receipt.queue_ns, receipt.batch_rows, receipt.padding) == (5, 3, 0.5)
    assert receipt.release_reason == "JOINED" and receipt.cache == "" and receipt.truncations == {"x": 2}


def test_the_receipt_of_an_answer_of_several_origins_is_read(client: Client, server: FakeServer) -> None:
    server.receipt = prediction_pb2.Receipt(
        release_reason=prediction_pb2.RELEASE_REASON_BISECTED, cache=prediction_pb2.CACHE_OUTCOME_PARTIAL,
        batches=2, cached_rows=7, digest="ab12",
    )  # fmt: skip
    receipt = client.predict("pricing.linear", {"x": 1.0}, receipt=True).receipt
    assert receipt is not None and (receipt.release_reason, receipt.cache) == ("BISECTED", "PARTIAL")
    assert (receipt.batches, receipt.cached_rows, receipt.digest) == (2, 7, "ab12")


def test_the_catalogue_tells_rows_and_ranking(client: Client, server: FakeServer) -> None:
    version = server.offer("shop.rank", numbers("item", "INT64"), numbers("score", "FP32")).versions[0]
    version.max_rows, version.batch_rows = 1024, 64
    version.signature.top_k.CopyFrom(catalog_pb2.TopK(by="score", k="k", index="place"))
    found = client.model("shop.rank").versions[0]
    assert (found.max_rows, found.batch_rows) == (1024, 64)
    assert client.signature("shop.rank").top_k == TopK("score", "k", "place")
    assert client.signature("pricing.linear").top_k is None


def test_the_deadline_is_always_set(client: Client, server: FakeServer) -> None:
    client.predict("pricing.linear", {"x": 1.0})
    client.predict("pricing.linear", {"x": 1.0}, timeout=2.0)
    assert 3.0 < server.remaining[0] < 5.5 and server.remaining[1] < 2.5
    with pytest.raises(DeadlineExceeded, match="the timeout of 0 s has passed"):
        client.predict("pricing.linear", {"x": 1.0}, timeout=0.0)


def test_a_frame_gives_its_columns_as_inputs(client: Client, server: FakeServer) -> None:
    class Column:
        def to_numpy(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            return np.array([1.0, 2.0])

    class DataFrame:
        columns = ("price",)

        def __getitem__(self, name: str) -> Column:
            return Column()

    server.offer("shop.rank", numbers("price", "FP32"))
    assert client.predict("shop.rank", DataFrame())["price"].tolist() == [1.0, 2.0]


def test_unknown_and_missing_inputs_are_named(client: Client) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.predict("pricing.linear", {"z": 1.0})
    assert [violation.field for violation in caught.value.violations] == ["inputs.z", "inputs.x"]
    assert caught.value.message == ("inputs.z: unknown input, expected x; inputs.x: missing; the input is required")
    with pytest.raises(InvalidInput, match="got list, expected a mapping of input name to value, or a DataFrame"):
        client.predict("pricing.linear", [4.0])


def test_optional_inputs_may_be_left_out(client: Client, server: FakeServer) -> None:
    server.offer("shop.rank", text("query"), numbers("age", "FP32", optional=True))
    assert list(client.predict("shop.rank", {"query": "hat"})) == ["query"]


def test_a_changed_signature_is_fetched_and_the_call_repeated(client: Client, server: FakeServer) -> None:
    client.predict("pricing.linear", {"x": [[1.0]]})
    server.offer("pricing.linear", numbers("x", "FP64", 1), fingerprint="f2")
    server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")]
    assert client.predict("pricing.linear", {"x": [[1.0]]})["x"].dtype == np.float64
    assert [request.schema_fingerprint for request in server.requests] == ["f1", "f1", "f2"]


def test_a_new_input_is_found_without_asking_predict(client: Client, server: FakeServer) -> None:
    client.predict("pricing.linear", {"x": [[1.0]]})
    server.offer("pricing.linear", numbers("z", "FP32"), fingerprint="f2")
    assert client.predict("pricing.linear", {"z": 1.0})["z"].tolist() == [1.0]
    assert len(server.requests) == 2


def test_a_call_is_not_repeated_while_the_signature_is_the_same(client: Client, server: FakeServer) -> None:
    server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")] * 2
    with pytest.raises(StaleSchema, match="changed"):
        client.predict("pricing.linear", {"x": [[1.0]]})
    assert len(server.requests) == 1 and server.described == 2


def test_versions_and_labels_are_chosen_as_the_server_does(client: Client, server: FakeServer) -> None:
    model = server.offer("shop.rank", numbers("x", "FP32"))
    second = model.versions.add()
    second.CopyFrom(model.versions[0])
    second.version, second.signature.fingerprint = 2, "f2"
    assert client.signature("shop.rank").fingerprint == "f2"
    assert client.signature("shop.rank", version=1).fingerprint == "f1"
    model.labels["stable"] = 1
    with pytest.raises(NotFound, match="model 'shop.rank' has no label 'canary'; it has stable"):
        client.signature("shop.rank", label="canary")
    assert client.signature("shop.rank").fingerprint == "f1"
    with pytest.raises(NotFound, match="model 'shop.rank' has no version 9; it has 1, 2"):
        client.predict("shop.rank", {"x": 1.0}, version=9)
    with pytest.raises(InvalidInput, match="got a version and a label"):
        client.predict("shop.rank", {"x": 1.0}, version=1, label="stable")


def test_without_version_and_label_the_server_says_which_version_counts(client: Client, server: FakeServer) -> None:
    model = server.offer("shop.rank", numbers("item", "INT64"))
    newer = model.versions.add()
    newer.CopyFrom(model.versions[0])
    newer.version = 2
    found = client.model("shop.rank").choose()
    assert found is not None and found.version == 2
    model.default_version = 1
    for version, label, wanted in ((None, None, 1), (2, None, 2), (None, "canary", 2)):
        model.labels["canary"] = 2
        found = client.model("shop.rank").choose(version, label)
        assert found is not None and found.version == wanted


def test_a_model_without_signature_tells_its_state(client: Client, server: FakeServer) -> None:
    version = server.offer("shop.rank").versions[0]
    version.ClearField("signature")
    version.state, version.reason = catalog_pb2.MODEL_STATE_FAILED, "parity failed"
    with pytest.raises(NotReady, match="model 'shop.rank' version 1 is FAILED: parity failed"):
        client.predict("shop.rank", {"x": 1.0})


def test_the_catalogue_tells_metrics_and_versions_that_are_refused(client: Client, server: FakeServer) -> None:
    server.offer("shop.rank", numbers("item", "INT64")).versions[0].metrics.update({"ndcg@10": 0.5, "f1": 0.83})
    server.refused = [catalog_pb2.RefusedPlugin(code="FOLDER_DAMAGED", reason="no", model="shop.rank", version=2)]
    assert client.model("shop.rank").versions[0].metrics == {"f1": 0.83, "ndcg@10": 0.5}
    assert client.model("pricing.linear").versions[0].metrics == {}
    (refused,) = client.catalog().refused_plugins
    assert (refused.code, refused.model, refused.version) == ("FOLDER_DAMAGED", "shop.rank", 2)


def test_the_catalogue_is_typed(client: Client, server: FakeServer) -> None:
    model = server.offer("shop.match", text("query", doc="What was typed."), image("photo"))
    model.versions[0].since.FromSeconds(0)
    model.versions[0].certificate.CopyFrom(catalog_pb2.Certificate(
        kind=catalog_pb2.CERTIFICATE_KIND_SOURCE, passed=True, cases=7, opset=20,
        errors=[catalog_pb2.OutputError(output="y", rel_l2=1e-7, tolerance=1e-5)],
    ))  # fmt: skip
    server.refused = [catalog_pb2.RefusedPlugin(entry_point="broken", code="IMPORT_FAILED", reason="no module")]
    assert [found.name for found in client.models()] == ["pricing.linear", "shop.match"]
    assert client.catalog().refused_plugins[0].code == "IMPORT_FAILED"
    version = client.model("shop.match").versions[0]
    assert version.state == "AVAILABLE" and version.since is not None and version.since.year == 1970
    assert version.certificate is not None and version.certificate.kind == "source"
    assert version.signature is not None
    query, photo = version.signature.inputs
    assert (query.kind, query.dtype, query.max_bytes, query.overflow) == ("text", "string", 100, "refuse")
    assert (photo.kind, photo.dtype, photo.formats, photo.low) == ("image", "bytes", ("jpeg",), None)
    with pytest.raises(NotFound, match="model 'no.such' not found"):
        client.model("no.such")


def test_health_of_the_server_and_of_a_model(client: Client, server: FakeServer) -> None:
    server.health.set("pricing.linear", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert client.health() is Health.SERVING
    assert client.health("pricing.linear") is Health.NOT_SERVING
    with pytest.raises(NotFound):
        client.health("no.such")


def test_waiting_ends_when_the_model_is_ready(client: Client, server: FakeServer) -> None:
    client.wait_until_ready(5.0)
    with pytest.raises(NotReady, match="model 'pricing.linear' is SERVICE_UNKNOWN after 0.2 s"):
        client.wait_until_ready(0.2, model="pricing.linear")
    server.health.set("pricing.linear", health_pb2.HealthCheckResponse.SERVING)
    client.wait_until_ready(5.0, model="pricing.linear")


def test_waiting_pauses_longer_after_every_watch_that_fails(
    client: Client, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.watch_failures += [Failure(StatusCode.UNAVAILABLE, "no upstream")] * 7
    client.wait_until_ready(20.0)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_waiting_ends_when_the_client_is_closed_in_a_pause(
    client: Client, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: client.close())
    server.watch_failures += [Failure(StatusCode.UNAVAILABLE, "no upstream")] * 7
    with pytest.raises(InvalidInput, match="the client is closed"):
        client.wait_until_ready(20.0)


def test_no_server_there_says_how_to_start_one(nobody: str) -> None:
    with Client(nobody) as client:
        with pytest.raises(Unavailable) as caught:
            client.predict("pricing.linear", {"x": 1.0})
        expected = f"no server answers at {nobody}; start one with `mercato serve`, or check the address"
        assert caught.value.message == expected
        with pytest.raises(Unavailable, match="no server answers at .* after 0.2 s"):
            client.wait_until_ready(0.2)
