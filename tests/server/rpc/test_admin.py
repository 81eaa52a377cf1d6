"""AdminService on the wire: what is asked, what is answered, and what every mistake is told."""

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tests.server.calls import PREDICT, Failed, failed
from tests.server.rpc.conftest import Seen
from tests.server.rpc.desk import STEPS, WORKER, Desk

from mercato.v1 import admin_pb2, admin_pb2_grpc, catalog_pb2
from mercato_server.errors import LabelRefused, LoadRefused, NotFound, WorkerCrashed
from mercato_server.rpc.admin_listener import AdminServer

SERVICE = "/mercato.v1.AdminService/"
UNARY = ("Unload", "SetLabel", "Drain", "ListWorkers")


def stub(channel: Any) -> Any:
    return admin_pb2_grpc.AdminServiceStub(channel)


async def refused(call: Any) -> Failed:
    """The status of a call, which must fail; streams are read to their end."""
    with pytest.raises(grpc.RpcError) as raised:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            async for _ in call:
                pass
        else:
            await call
    return failed(raised.value)


def sent(channel: Any, method: str, data: bytes, **facts: Any) -> Any:
    """Bytes to any method of the service."""
    kind = channel.unary_stream if method == "Load" else channel.unary_unary
    return kind(SERVICE + method)(data, timeout=20, **facts)


async def test_every_step_of_a_load_is_told(admin: Any, desk: Desk, seen: Seen) -> None:
    answers = [answer async for answer in stub(admin).Load(admin_pb2.LoadRequest(model="pricing.linear"), timeout=20)]
    told = [(a.model, a.version, a.state, a.step, a.done, a.total, a.digest, a.reason) for a in answers]
    assert told == [
        (s.model, s.version, catalog_pb2.ModelState.Value(f"MODEL_STATE_{s.state.value}"), s.step, s.done, s.total,
         s.digest, s.reason)
        for s in STEPS
    ]  # fmt: skip
    assert desk.asked == [("load", "pricing.linear", None, "")]
    assert seen.requests.counts() == {("mercato.v1.AdminService/Load", "", 0, "OK"): 1}


async def test_a_plugin_is_loaded_by_its_distribution_however_it_is_spelt(admin: Any, desk: Desk) -> None:
    async for _ in stub(admin).Load(admin_pb2.LoadRequest(plugin="Mercato_Pricing"), timeout=20):
        pass
    assert desk.asked == [("load", "", None, "mercato-pricing")]


async def test_one_version_of_a_model_is_loaded(admin: Any, desk: Desk) -> None:
    async for _ in stub(admin).Load(admin_pb2.LoadRequest(model="pricing.linear", version=2), timeout=20):
        pass
    assert desk.asked == [("load", "pricing.linear", 2, "")]


async def test_unloading_tells_what_it_gave_back(admin: Any, desk: Desk) -> None:
    one = await stub(admin).Unload(admin_pb2.UnloadRequest(model="pricing.linear", version=2), timeout=20)
    every = await stub(admin).Unload(admin_pb2.UnloadRequest(model="pricing.linear"), timeout=20)
    assert (list(one.versions), list(every.versions), every.memory_bytes) == ([2], [3, 2], 5 * 2**20)
    assert desk.asked == [("unload", "pricing.linear", 2), ("unload", "pricing.linear", None)]


async def test_labels_move_and_go(admin: Any, desk: Desk) -> None:
    request = admin_pb2.SetLabelRequest(model="pricing.linear", label="stable", version=2)
    assert dict((await stub(admin).SetLabel(request, timeout=20)).labels) == {"canary": 3, "stable": 2}
    request.version = 0
    assert dict((await stub(admin).SetLabel(request, timeout=20)).labels) == {"canary": 3}
    assert desk.asked == [("label", "pricing.linear", "stable", 2), ("label", "pricing.linear", "stable", None)]


async def test_draining_answers_first(admin: Any, listener: AdminServer, desk: Desk) -> None:
    ended: list[asyncio.Task[None]] = []
    desk.on_drain = lambda: ended.append(asyncio.create_task(listener.stop(20)))
    assert (await stub(admin).Drain(admin_pb2.DrainRequest(), timeout=20)).requests == 7
    await ended[0]


async def test_workers_are_listed_whole(admin: Any) -> None:
    (worker,) = (await stub(admin).ListWorkers(admin_pb2.ListWorkersRequest(), timeout=20)).workers
    assert (worker.plugin.distribution, worker.plugin.version) == ("mercato-pricing", "0.1.0")
    assert (worker.isolation, worker.pid, worker.restarts) == ("process", WORKER.pid, 2)
    assert worker.started.ToNanoseconds() == WORKER.started * 1e9
    assert (worker.last_crash, worker.memory_bytes) == (WORKER.last_crash, WORKER.nbytes)
    (model,) = worker.models
    assert (model.model, model.version, model.state) == ("pricing.linear", 3, catalog_pb2.MODEL_STATE_AVAILABLE)
    assert model.memory_bytes == 5 * 2**20


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (NotFound("there is no model 'a.b'; there are none", model="a.b"), StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        (LoadRefused("it fails", reason="LOAD_FAILED"), StatusCode.FAILED_PRECONDITION, "LOAD_FAILED"),
        (LabelRefused("model 'a.b' version 2 is FAILED"), StatusCode.FAILED_PRECONDITION, "VERSION_NOT_AVAILABLE"),
        (WorkerCrashed("it ended"), StatusCode.UNAVAILABLE, "WORKER_CRASHED"),
        (KeyError("/secret/path"), StatusCode.INTERNAL, "PLUGIN_FAULT"),
    ],
)
@pytest.mark.parametrize("method", ["Load", "Unload", "SetLabel"])
async def test_what_the_server_raises_is_told_as_everywhere(
    admin: Any, desk: Desk, method: str, error: Exception, code: StatusCode, reason: str
) -> None:
    desk.fault = error
    requests = {
        "Load": admin_pb2.LoadRequest(model="a.b"),
        "Unload": admin_pb2.UnloadRequest(model="a.b"),
        "SetLabel": admin_pb2.SetLabelRequest(model="a.b", label="stable", version=2),
    }
    call = sent(admin, method, requests[method].SerializeToString(), metadata=(("x-request-id", "mine"),))
    got = await refused(call)
    assert (got.code, got.reason, got.trailing["x-request-id"]) == (code, reason, "mine")
    assert "secret" not in got.everything


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("Load", admin_pb2.LoadRequest(), "target"),
        ("Load", admin_pb2.LoadRequest(model=""), "model"),
        ("Load", admin_pb2.LoadRequest(model="../x"), "model"),
        ("Load", admin_pb2.LoadRequest(model="a." + "b" * 63), "model"),
        ("Load", admin_pb2.LoadRequest(model="pricing.linear", version=-1), "version"),
        ("Load", admin_pb2.LoadRequest(plugin="mercato-pricing", version=2), "version"),
        ("Load", admin_pb2.LoadRequest(plugin=""), "plugin"),
        ("Load", admin_pb2.LoadRequest(plugin="mercato pricing"), "plugin"),
        ("Load", admin_pb2.LoadRequest(plugin="a/../b"), "plugin"),
        ("Load", admin_pb2.LoadRequest(plugin="a" * 129), "plugin"),
        ("Unload", admin_pb2.UnloadRequest(), "model"),
        ("Unload", admin_pb2.UnloadRequest(model="pricing"), "model"),
        ("Unload", admin_pb2.UnloadRequest(model="pricing.linear", version=-1), "version"),
        ("SetLabel", admin_pb2.SetLabelRequest(model="pricing.linear", version=2), "label"),
        ("SetLabel", admin_pb2.SetLabelRequest(model="pricing.linear", label="a.b", version=2), "label"),
        ("SetLabel", admin_pb2.SetLabelRequest(model="pricing.linear", label="Stable", version=2), "label"),
        ("SetLabel", admin_pb2.SetLabelRequest(model="pricing.linear", label="a" * 65, version=2), "label"),
        ("SetLabel", admin_pb2.SetLabelRequest(model="pricing.linear", label="stable", version=-2), "version"),
        ("SetLabel", admin_pb2.SetLabelRequest(model="Pricing.Linear", label="stable"), "model"),
    ],
)
async def test_names_are_checked_before_anybody_is_asked(
    admin: Any, desk: Desk, method: str, request_: Any, field: str
) -> None:
    got = await refused(sent(admin, method, request_.SerializeToString()))
    assert (got.code, got.reason, got.fields) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", [field])
    assert desk.asked == []


async def test_names_are_escaped_and_cut_in_texts(admin: Any) -> None:
    got = await refused(stub(admin).Unload(admin_pb2.UnloadRequest(model="a\n\x1b[31m价格" + "x" * 500), timeout=20))
    assert r"got 'a\n\x1b[31m\u4ef7\u683c" in got.text and got.text.isprintable() and len(got.text) < 300


@pytest.mark.parametrize("method", ["Load", *UNARY])
async def test_bytes_that_are_no_message_are_the_callers_mistake(admin: Any, desk: Desk, method: str) -> None:
    for data in (b"\xff", b"\x0a\x01\xff", b"\x0a\x80", b"\x0a\x00" * 65):
        if method in ("Drain", "ListWorkers") and data == b"\x0a\x01\xff":
            continue  # a field that they do not know
        got = await refused(sent(admin, method, data))
        assert (got.code, got.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert desk.asked == []


@pytest.mark.parametrize("method", ["Load", *UNARY])
async def test_a_message_over_the_limit_never_arrives(admin: Any, desk: Desk, method: str) -> None:
    assert (await refused(sent(admin, method, bytes(65_537)))).code is StatusCode.RESOURCE_EXHAUSTED
    assert desk.asked == []


@pytest.mark.parametrize("method", ["Load", *UNARY])
async def test_a_call_without_a_message_is_refused(admin: Any, desk: Desk, method: str) -> None:
    call = admin.stream_stream(SERVICE + method)(timeout=20)
    await call.done_writing()
    with pytest.raises(grpc.RpcError) as raised:
        async for _ in call:
            pass
    got = failed(raised.value)
    assert (got.code, "without a whole message" in got.text) == (StatusCode.INVALID_ARGUMENT, True)
    assert desk.asked == []


async def test_only_the_first_message_of_a_load_is_read(admin: Any, desk: Desk) -> None:
    desk.gate.clear()
    call = admin.stream_stream(SERVICE + "Load")(timeout=20)
    for name in ("a.b", "c.d"):
        await call.write(admin_pb2.LoadRequest(model=name).SerializeToString())
    desk.gate.set()
    assert len([answer async for answer in call]) == len(STEPS)
    assert desk.asked == [("load", "a.b", None, "")]


@pytest.mark.parametrize("method", ["Load", "Unload"])
async def test_what_was_begun_goes_on_when_its_caller_leaves(admin: Any, desk: Desk, seen: Seen, method: str) -> None:
    desk.gate.clear()
    call = sent(admin, method, admin_pb2.UnloadRequest(model="a.b").SerializeToString())
    reading = asyncio.ensure_future(refused(call))
    await desk.reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await seen.ended.wait()
    assert {key[3] for key in seen.requests.counts()} == {"CANCELLED"}
    assert not desk.finished.is_set()
    desk.gate.set()
    await asyncio.wait_for(desk.finished.wait(), 20)


async def test_a_deadline_ends_the_telling_alone(admin: Any, desk: Desk) -> None:
    desk.gate.clear()
    reading = asyncio.ensure_future(refused(stub(admin).Load(admin_pb2.LoadRequest(model="a.b"), timeout=1)))
    await asyncio.wait_for(desk.reached.wait(), 20)
    assert (await reading).code is StatusCode.DEADLINE_EXCEEDED
    desk.gate.set()
    await asyncio.wait_for(desk.finished.wait(), 20)


async def test_a_load_that_fails_without_its_caller_is_logged(
    admin: Any, desk: Desk, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    desk.gate.clear()
    desk.fault = LoadRefused("model 'a.b' cannot be loaded", reason="LOAD_FAILED")
    logged = asyncio.Event()
    handler = logging.Handler()
    handler.emit = lambda record: logged.set()  # type: ignore[method-assign]
    logging.getLogger("mercato.admin").addHandler(handler)
    call = stub(admin).Load(admin_pb2.LoadRequest(model="a.b"), timeout=20)
    reading = asyncio.ensure_future(refused(call))
    await desk.reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await seen.ended.wait()
    desk.gate.set()
    await asyncio.wait_for(logged.wait(), 20)
    logging.getLogger("mercato.admin").removeHandler(handler)
    assert "failed after its caller had left: model 'a.b' cannot be loaded" in caplog.text


async def test_who_waits_for_a_load_is_told_that_the_server_stops(
    admin: Any, listener: AdminServer, desk: Desk
) -> None:
    desk.gate.clear()
    reading = asyncio.ensure_future(refused(stub(admin).Load(admin_pb2.LoadRequest(model="a.b"), timeout=20)))
    await desk.reached.wait()
    await listener.stop(20)
    got = await reading
    assert (got.code, got.reason) == (StatusCode.UNAVAILABLE, "DRAINING")


async def test_the_listener_has_health_and_the_catalog_and_no_predictions(admin: Any) -> None:
    check = admin.unary_unary("/grpc.health.v1.Health/Check")
    answer = health_pb2.HealthCheckResponse.FromString(await check(b"", timeout=20))
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    listed = await admin.unary_unary("/mercato.v1.CatalogService/ListModels")(b"", timeout=20)
    assert catalog_pb2.ListModelsResponse.FromString(listed) == catalog_pb2.ListModelsResponse()
    for method in (PREDICT, f"{PREDICT}Stream", f"{SERVICE}LoadModel", "/"):
        assert (await refused(admin.unary_unary(method)(b"", timeout=20))).code is StatusCode.UNIMPLEMENTED
