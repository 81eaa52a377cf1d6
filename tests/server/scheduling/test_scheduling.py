"""The scheduler in a real server: overload, priorities, poison, large requests, known rows, mixed lengths."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.calls import FP32, PREDICT, Wire, failed
from tests.server.conftest import Start
from tests.server.running import Running
from tests.server.scheduling.plugin import GUILTY, MODEL, REFUSED, WAITS, codes, shelf

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_client import AsyncClient, Client, Overloaded

Future = Any


def ask(wire: Wire, *values: float, timeout: float = 60.0, **facts: Any) -> Future:
    """A call under way, one row for each value."""
    x = np.array(values, np.float32).reshape(-1, 1)
    tensor = tensor_pb2.Tensor(dtype=FP32, shape=x.shape, data=x.tobytes())
    request = prediction_pb2.PredictRequest(
        model=prediction_pb2.ModelRef(name=MODEL),
        inputs=[tensor_pb2.NamedTensor(name="x", tensor=tensor)],
        want_receipt=True,
        **facts,
    )
    return wire.channel.unary_unary(PREDICT).future(request.SerializeToString(), timeout=timeout)


def answer(call: Future) -> prediction_pb2.PredictResponse:
    return prediction_pb2.PredictResponse.FromString(call.result())


def values(call: Future) -> list[float]:
    found: list[float] = np.frombuffer(answer(call).outputs[0].tensor.data, np.float32).tolist()
    return found


def test_a_full_model_refuses_with_the_time_to_come_back_and_health_and_admin_are_never_refused(
    start: Start, tmp_path: Path
) -> None:
    with shelf(start, tmp_path, model={"max_requests": 3}) as s:
        values(ask(s.wire, 1.0))
        first = ask(s.wire, WAITS)
        s.gate.reached("run")
        waiting = [ask(s.wire, 2.0), ask(s.wire, 3.0)]
        s.arrived(3)
        refused = failed(ask(s.wire, 4.0).exception())
        assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert int(refused.trailing["grpc-retry-pushback-ms"]) >= 10
        assert "has 3 requests in flight, its limit; retry later" in refused.text
        assert s.wire.serving() and s.wire.serving(MODEL)
        assert s.administered("workers")
        urgent = ask(s.wire, 5.0, priority=1)
        assert codes(waiting[1:]) == ["RESOURCE_EXHAUSTED"]
        s.gate.open("run")
        assert [values(call) for call in (first, waiting[0], urgent)] == [[WAITS], [2.0], [5.0]]


def test_the_process_is_bounded_and_quotas_hold(start: Start, tmp_path: Path) -> None:
    callers = {"127.0.0.1": {"max_requests": 2}}
    with shelf(start, tmp_path, callers=callers) as s:
        first = ask(s.wire, WAITS)
        s.gate.reached("run")
        second = ask(s.wire, 2.0)
        s.arrived(2)
        refused = failed(ask(s.wire, 3.0).exception())
        assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        assert "the caller has 2 requests in flight, its quota" in refused.text
        s.gate.open("run")
        assert codes([first, second]) == ["OK", "OK"]
        assert values(ask(s.wire, 4.0)) == [4.0]


def test_the_more_urgent_runs_first_and_waits_for_no_prepared_batch(start: Start, tmp_path: Path) -> None:
    with shelf(start, tmp_path, model={"batch_rows": 2}) as s:
        first = ask(s.wire, WAITS)
        s.gate.reached("run")
        low = [ask(s.wire, 10.0 + number, priority=9) for number in range(6)]
        s.arrived(7)
        urgent = ask(s.wire, 20.0, priority=1)
        s.arrived(8)
        s.gate.open("run")
        assert codes([first, *low, urgent]) == ["OK"] * 8
        waits = [answer(call).receipt.queue_ns for call in low]
        assert answer(urgent).receipt.queue_ns < min(waits[-2:])


def test_one_guilty_row_costs_its_own_request_only(start: Start, tmp_path: Path) -> None:
    with shelf(start, tmp_path) as s:
        first = ask(s.wire, WAITS)
        s.gate.reached("run")
        calls = [ask(s.wire, float(number)) for number in range(20)]
        guilty, refused = ask(s.wire, 1.0, GUILTY), ask(s.wire, 2.0, REFUSED)
        s.arrived(23)
        s.gate.open("run")
        assert [values(call) for call in calls] == [[float(number)] for number in range(20)]
        assert values(first) == [WAITS]
        assert failed(guilty.exception()).reason == "PLUGIN_FAULT"
        assert failed(refused.exception()).fields == ["inputs.x[1]"]
        assert values(ask(s.wire, 3.0)) == [3.0]
        receipts = [answer(call).receipt for call in calls]
        names = {prediction_pb2.ReleaseReason.Name(receipt.release_reason) for receipt in receipts}
        assert names == {"RELEASE_REASON_BISECTED"}


def test_a_request_larger_than_a_batch_is_answered_whole(start: Start, tmp_path: Path) -> None:
    with shelf(start, tmp_path, model={"batch_rows": 16}) as s:
        numbers = [float(number) for number in range(1000)]
        call = ask(s.wire, *numbers)
        assert values(call) == numbers
        receipt = answer(call).receipt
        assert (receipt.batches, receipt.batch_rows) == (63, 16)
        assert receipt.digest == answer(call).model.digest
        guilty = ask(s.wire, *numbers[:500], GUILTY)
        assert failed(guilty.exception()).reason == "PLUGIN_FAULT"
        refused = ask(s.wire, *numbers[:500], REFUSED)
        assert failed(refused.exception()).fields == ["inputs.x[500]"]


def test_known_rows_are_not_run_again(start: Start, tmp_path: Path) -> None:
    with shelf(start, tmp_path, model={"cache_bytes": 100_000}) as s:
        outcomes = []
        for asked in ([1.0, 2.0], [2.0, 1.0], [2.0, 3.0]):
            call = ask(s.wire, *asked)
            assert values(call) == asked
            receipt = answer(call).receipt
            outcomes.append((prediction_pb2.CacheOutcome.Name(receipt.cache), receipt.cached_rows, receipt.batches))
        assert outcomes == [
            ("CACHE_OUTCOME_MISS", 0, 1), ("CACHE_OUTCOME_HIT", 2, 0), ("CACHE_OUTCOME_PARTIAL", 1, 1),
        ]  # fmt: skip
        first = ask(s.wire, WAITS)
        s.gate.reached("run")
        same = ask(s.wire, WAITS)
        s.arrived(2)
        s.gate.open("run")
        assert values(first) == values(same) == [WAITS]
        assert answer(same).receipt.cache == prediction_pb2.CACHE_OUTCOME_COALESCED


async def test_joined_texts_of_mixed_lengths_get_the_answers_they_get_alone(server: Running) -> None:
    """Padding and neighbours change nothing beyond the certificate's tolerance."""
    words = [
        "waterproof",
        "trail",
        "running",
        "shoe",
        "with",
        "a",
        "wide",
        "toe",
        "box",
        "跑鞋",
        "42",
        "码",
        "红色",
        "and",
        "recycled",
        "laces",
    ]
    texts = [" ".join(words[: 1 + number % len(words)] * (1 + number % 5)) for number in range(48)]
    with Client(server.address, timeout=60.0) as client:
        alone = [client.predict("semantic.encoder", {"text": text})["embedding"][0] for text in texts]
    async with AsyncClient(server.address, timeout=60.0) as client:
        pending = [client.predict("semantic.encoder", {"text": text}, receipt=True) for text in texts]
        joined = await asyncio.gather(*pending)
    assert max(prediction.receipt.batch_rows for prediction in joined if prediction.receipt) > 4
    for one, prediction in zip(alone, joined, strict=True):
        error = np.linalg.norm(prediction["embedding"][0] - one) / np.linalg.norm(one)
        assert error < 1e-4


def test_a_client_with_retries_gives_up_within_its_budget(start: Start, tmp_path: Path) -> None:
    with shelf(start, tmp_path, model={"max_requests": 1}) as s:
        first = ask(s.wire, WAITS)
        s.gate.reached("run")
        with Client(s.running.address, timeout=20.0) as client:
            for _ in range(8):
                with pytest.raises(Overloaded) as caught:
                    client.predict(MODEL, {"x": [[1.0]]})
                assert caught.value.retry_after is not None
        s.gate.open("run")
        assert codes([first]) == ["OK"]
