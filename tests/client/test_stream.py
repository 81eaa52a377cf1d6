"""`Client.stream`: many requests through one call, each with a future of its own."""

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from grpc import StatusCode
from tests.client.fake import Failure, FakeServer, Script, numbers

from mercato_client import Client, InvalidInput, NotFound, Overloaded, Pending, Prediction, Stream, Unavailable
from mercato_client import stream as stream_module
from mercato_client.errors import DeadlineExceeded, ServerError, StaleSchema
from mercato_client.flights import LIMIT

X = "pricing.linear"


def value(answer: Prediction) -> float:
    return float(answer["x"].item())


def opened(server: FakeServer) -> Script:
    """The server's side of the stream, once one request more has come."""
    script = server.stream()
    script.got.get(timeout=10)
    return script


def test_answers_come_in_any_order(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    with client.stream() as stream:
        slow, fast = (stream.predict(X, {"x": number}) for number in (1.0, 2.0))
        assert value(fast.result(10)) == 2.0 and not slow.done()
        server.stream().release("1")
        assert value(slow.result(10)) == 1.0
    assert slow.result().model.name == X and slow.result().request_id == server.stream().requests[0].request_id


def test_requests_of_different_streams_have_different_ids(client: Client, server: FakeServer) -> None:
    for _ in range(2):
        with client.stream() as stream:
            for _ in range(2):
                stream.predict(X, {"x": 1.0})
    ids = [request.request_id for number in range(2) for request in server.stream(number).requests]
    assert len(set(ids)) == 4 and [name[8:] for name in ids] == ["-1", "-2"] * 2


def test_many_requests_share_one_call_and_one_description(client: Client, server: FakeServer) -> None:
    with client.stream() as stream:
        pending = [stream.predict(X, {"x": float(number)}) for number in range(1000)]
    assert [value(one.result(0)) for one in pending] == list(range(1000))
    assert server.described == 1
    assert server.stream().half_closed.is_set()


def test_every_argument_travels(client: Client, server: FakeServer) -> None:
    with client.stream() as stream:
        stream.predict(
            X, {"x": 1.0}, version=1, outputs="x", priority=2, receipt=True, timeout=3.0, parameters={"k": 1}
        )
    sent = server.stream().requests[0]
    assert (sent.model.version, list(sent.outputs), sent.priority, sent.want_receipt) == (1, ["x"], 2, True)
    assert sent.schema_fingerprint == "f1" and sent.parameters["k"].int_value == 1
    assert 2.0 < sent.timeout.ToNanoseconds() / 1e9 <= 3.0


def test_an_error_belongs_to_its_request_only(client: Client, server: FakeServer) -> None:
    server.failures = [Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "OVERLOADED"), Failure(StatusCode.NOT_FOUND)]
    with client.stream() as stream:
        full, absent, good = (stream.predict(X, {"x": number}) for number in (1.0, 2.0, 3.0))
        assert isinstance(full.exception(10), Overloaded) and isinstance(absent.exception(10), NotFound)
        assert value(good.result(10)) == 3.0


def test_what_the_client_refuses_is_in_the_future_too(client: Client, server: FakeServer) -> None:
    with client.stream() as stream:
        wrong = [
            stream.predict(X, {"z": 1.0}),
            stream.predict(X, {"x": 1.0}, timeout=float("nan")),
            stream.predict("no.such", {"x": 1.0}),
            stream.predict(X, {"x": 1.0}, timeout=0.0),
        ]
        assert [type(one.exception(10)) for one in wrong] == [InvalidInput, InvalidInput, NotFound, DeadlineExceeded]
        assert value(stream.predict(X, {"x": 1.0}).result(10)) == 1.0
    assert len(server.stream().requests) == 1


def test_a_message_over_the_limit_does_not_end_the_stream(client: Client, server: FakeServer) -> None:
    server.offer("shop.rank", numbers("x", "UINT8"))
    with client.stream() as stream:
        large = stream.predict("shop.rank", {"x": np.zeros(17 * 1024 * 1024, np.uint8)})
        with pytest.raises(InvalidInput, match="message too large: .* bytes, at most 16777216; send fewer rows"):
            large.result(10)
        assert value(stream.predict(X, {"x": 1.0}).result(10)) == 1.0


def test_cancelling_tells_the_server(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    with client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        script = opened(server)
        assert pending.cancel() and pending.cancelled()
        assert script.cancelled.get(timeout=10) == "1"
        assert value(stream.predict(X, {"x": 2.0}).result(10)) == 2.0
    with pytest.raises(InvalidInput, match="the stream is closed; open another one"):
        stream.predict(X, {"x": 1.0})


def test_a_cancelled_request_counts_as_done(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    with client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        assert pending.cancel() and pending.cancel()
        assert concurrent.futures.wait([pending], 10).done == {pending}
        assert list(concurrent.futures.as_completed([pending], 10)) == [pending]


def test_leaving_ends_when_another_thread_cancels(client: Client, server: FakeServer) -> None:
    server.held = {1.0}

    def use() -> None:
        with client.stream() as stream:
            begun.put(stream.predict(X, {"x": 1.0}, timeout=1000.0))

    begun: queue.SimpleQueue[Pending] = queue.SimpleQueue()
    leaving = threading.Thread(target=use, daemon=True)
    leaving.start()
    pending = begun.get(timeout=10)
    opened(server)
    until(lambda: bool(pending._waiters))  # the block waits for the answer
    assert pending.cancel()
    leaving.join(10)
    assert not leaving.is_alive()


def until(reached: Callable[[], bool]) -> None:
    """Give other threads turns until something holds."""
    while not reached():
        time.sleep(0)


@pytest.mark.parametrize("known", [True, False])
def test_an_interrupted_predict_is_not_waited_for(
    client: Client, server: FakeServer, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Ctrl-C while `predict` waits for room, or for the signature."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if known:
        client.signature(X)
    with client.stream() as stream:
        target: object = stream._room if known else stream_module
        monkeypatch.setattr(target, "acquire" if known else "outcome", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stream.predict(X, {"x": 1.0})
        assert not stream._flights.unsettled


def test_an_answered_request_cannot_be_cancelled(client: Client) -> None:
    with client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        pending.result(10)
        assert not pending.cancel()


def test_a_callback_gets_the_future(client: Client) -> None:
    done: concurrent.futures.Future[Pending] = concurrent.futures.Future()
    with client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        pending.add_done_callback(lambda future: done.set_result(pending))
        assert done.result(10) is pending


def test_the_timeout_holds_where_no_answer_comes(client: Client, server: FakeServer) -> None:
    server.held = {1.0, 2.0}
    with client.stream() as stream:
        late = stream.predict(X, {"x": 1.0}, timeout=30.0)
        soon = stream.predict(X, {"x": 2.0}, timeout=0.1)
        with pytest.raises(DeadlineExceeded, match=f"no answer from {server.address} within the timeout"):
            soon.result(10)
        assert server.stream().cancelled.get(timeout=10) == "2" and not late.done()
        server.stream().release("1")
        assert value(late.result(10)) == 1.0


def test_leaving_by_an_exception_cancels_what_is_open(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    with pytest.raises(KeyError), client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        opened(server)
        raise KeyError
    assert pending.cancelled() and server.stream().ended.wait(10)


def test_a_full_stream_waits_up_to_the_timeout(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    with client.stream() as stream:
        held = [stream.predict(X, {"x": 1.0}, timeout=30.0) for _ in range(LIMIT)]
        with pytest.raises(DeadlineExceeded, match="256 requests were in flight on the stream until the timeout"):
            stream.predict(X, {"x": 2.0}, timeout=0.1).result(0)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(stream.predict, X, {"x": 2.0})
            for number in range(1, LIMIT + 1):
                opened(server).release(str(number))
            assert value(waiting.result(10).result(10)) == 2.0
        assert {value(one.result(10)) for one in held} == {1.0}


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (Failure(StatusCode.UNAVAILABLE, "stopping", "DRAINING"), Unavailable, "stopping"),
        (Failure(StatusCode.INTERNAL, "failed"), ServerError, "failed"),
        (None, Unavailable, "the server has ended the stream; open another one"),
    ],
)
def test_a_broken_stream_fails_all_and_says_why(
    client: Client, server: FakeServer, failure: Failure | None, kind: type[Exception], text: str
) -> None:
    server.held = {1.0}
    with client.stream() as stream:
        pending = [stream.predict(X, {"x": 1.0}) for _ in range(3)]
        opened(server).fail(failure)
        for one in pending:
            with pytest.raises(kind, match=text):
                one.result(10)
        with pytest.raises(kind, match=text):
            stream.predict(X, {"x": 1.0})


def test_no_server_there(nobody: str) -> None:
    with Client(nobody, timeout=5.0) as alone, alone.stream() as stream, pytest.raises(Unavailable):
        stream.predict(X, {"x": 1.0}).result(10)


def test_closing_the_client_ends_its_streams(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    with client.stream() as stream:
        pending = stream.predict(X, {"x": 1.0})
        opened(server)
        client.close()
        with pytest.raises(InvalidInput, match="the client is closed"):
            pending.result(10)
        with pytest.raises(InvalidInput, match="the client is closed"):
            stream.predict(X, {"x": 1.0})


def test_a_stream_is_opened_by_its_block(client: Client) -> None:
    with pytest.raises(InvalidInput, match="the stream is not open; call it in a block"):
        client.stream().predict(X, {"x": 1.0})


def test_a_stream_is_opened_once(client: Client) -> None:
    with client.stream() as stream:
        with pytest.raises(InvalidInput, match=r"a stream is opened once; make another one"):
            stream.__enter__()
        assert value(stream.predict(X, {"x": 1.0}).result(10)) == 1.0
    with pytest.raises(InvalidInput, match=r"a stream is opened once; make another one"):
        stream.__enter__()


def test_a_changed_signature_is_fetched_and_the_request_repeated(client: Client, server: FakeServer) -> None:
    with client.stream() as stream:
        stream.predict(X, {"x": [[1.0]]}).result(10)
        server.offer(X, numbers("x", "FP64", 1), fingerprint="f2")
        server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")]
        pending = stream.predict(X, {"x": [[1.0]]})
    assert pending.result(0)["x"].dtype == np.float64
    assert [request.schema_fingerprint for request in server.stream().requests] == ["f1", "f1", "f2"]


def test_a_changed_signature_is_fetched_once_for_all_requests_in_flight(client: Client, server: FakeServer) -> None:
    server.held = {1.0}
    client.signature(X)
    server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")] * 50
    with client.stream() as stream:
        pending = [stream.predict(X, {"x": [[1.0]]}) for _ in range(50)]
        for _ in pending:
            opened(server)
        server.offer(X, numbers("x", "FP64", 1), fingerprint="f2")
        for number in range(1, 51):
            server.stream().release(str(number))
        assert {one.result(10)["x"].dtype for one in pending} == {np.dtype(np.float64)}
    assert server.described == 2


def test_a_request_is_not_repeated_while_the_signature_is_the_same(client: Client, server: FakeServer) -> None:
    server.failures = [Failure(StatusCode.FAILED_PRECONDITION, "changed", "SCHEMA_CHANGED")] * 2
    with client.stream() as stream:
        pending = stream.predict(X, {"x": [[1.0]]})
    assert isinstance(pending.exception(0), StaleSchema) and len(server.stream().requests) == 1


def test_threads_share_a_stream(client: Client, server: FakeServer) -> None:
    def ask(first: int) -> list[float]:
        pending = [stream.predict(X, {"x": float(first + number)}) for number in range(100)]
        return [value(one.result(10)) for one in pending]

    with client.stream() as stream, concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(0, 400, 100)))
    assert answers == [list(range(first, first + 100)) for first in range(0, 400, 100)]


def test_its_threads_end_with_it(client: Client) -> None:
    for leave in (Stream.__exit__, None):
        _use(client.stream(), leave)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("mercato-")]
    for thread in ours:
        thread.join(10)
    assert not any(thread.is_alive() for thread in ours)


def _use(stream: Stream, leave: Callable[..., None] | None) -> None:
    error = None if leave is None else KeyError()
    stream.__enter__()
    stream.predict(X, {"x": 1.0}).result(10)
    stream.__exit__(type(error) if error else None, error, None)
