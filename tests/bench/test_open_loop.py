"""Shows that an open-loop load keeps to its times whatever the server does, and tells what became of each call."""

import asyncio
import base64
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench import echo, generator, open_loop, overload, servers
from bench.http2 import CANCEL, REFUSED, Reply
from bench.lengths import MARKS, padded_over_real, text
from bench.open_loop import Flow, Phase, Records
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from hpack import Encoder

FLOW = Flow([b"a", b"b", b"c"], [Phase(200.0, 0.5), Phase(0.0, 0.25), Phase(1000.0, 0.25)], deadline=5.0)


def records(due: Sequence[float], waited: Sequence[float], status: Sequence[str]) -> Records:
    count = len(due)
    at, nothing = np.array(due, np.float64), np.full(count, math.nan)
    return Records(
        payload=np.zeros(count, np.int64),
        due=at,
        sent=at,
        ended=at + np.array(waited),
        deadline=np.full(count, 1.0),
        status=np.array(status),
        reason=np.full(count, ""),
        pushback_ms=nothing,
        answers=[b"yes" if name == "OK" else b"" for name in status],
    )


def test_the_times_of_a_flow_are_the_same_in_every_run_and_follow_its_phases() -> None:
    due = FLOW.due()
    assert np.array_equal(due, FLOW.due()) and not np.array_equal(due[:50], replace(FLOW, seed=2).due()[:50])
    assert np.all(np.diff(due) >= 0)
    assert [np.sum((due >= a) & (due < b)) for a, b in ((0.5, 0.75), (1.0, math.inf))] == [0, 0]
    assert 70 < np.sum(due < 0.5) < 130


def test_even_gaps_are_even() -> None:
    due = replace(FLOW, gaps="even", phases=[Phase(10.0, 0.5)]).due()
    assert due.round(9).tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_a_flow_in_two_processes_is_as_much_load() -> None:
    parts = FLOW.split(2)
    assert [sum(part.phases[0].rate for part in parts), parts[0].phases[0].seconds] == [200.0, 0.5]
    assert not np.array_equal(parts[0].due()[:20], parts[1].due()[:20])


def test_every_call_is_sent_when_it_is_due_and_answered() -> None:
    big = replace(FLOW, payloads=[bytes(16_000)], method=echo.METHOD)  # more than a window holds at a time
    with servers.echo(7) as bare:
        [[first], [second]] = open_loop.run("echo", bare.address, [[big], [replace(big, seed=2)]])
    both = Records.join([first, second])
    assert np.array_equal(first.due, big.due())
    assert len(both.due) == len(both.answers) == len(first.due) + len(second.due)
    assert both.good.all() and set(both.answers) == {bytes(7)}
    assert (both.sent >= both.due).all() and (both.ended > both.sent).all()


@asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """A server that reads and never answers."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()

    async with await asyncio.start_server(read, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_call_ends_at_its_deadline_and_the_background_with_the_others() -> None:
    short = Flow([b""], [Phase(100.0, 0.2)], deadline=0.1, gaps="even")
    async with silence() as address:
        flows = [short, replace(short, deadline=60.0, background=True)]
        [[late, left]] = await asyncio.to_thread(open_loop.run, "silence", address, [flows])
    assert set(late.status) == {"DEADLINE_EXCEEDED"} and not late.good.any()
    assert (late.ended - late.due >= 0.1).all()
    assert set(left.status) == {"CANCELLED"} and np.isnan(left.ended).all()


async def test_a_server_that_hangs_up_makes_calls_unavailable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        flow = Flow([b""], [Phase(100.0, 0.2)], deadline=5.0, gaps="even")
        [[calls]] = await asyncio.to_thread(open_loop.run, "hang up", address, [[flow]])
    assert set(calls.status) == {"UNAVAILABLE"}


def test_the_generators_failure_is_told() -> None:
    with pytest.raises(RuntimeError, match="ended with code 1 before it was ready"):
        open_loop.run("nobody", "127.0.0.1:1", [[FLOW]])


def trailers(code: int, **more: str) -> bytes:
    info = AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="mercato"))
    details = status_pb2.Status(code=code, details=[info]).SerializeToString()
    headers = {"grpc-status": str(code), **more}
    encoded = base64.b64encode(details).decode().rstrip("=")
    return Encoder().encode([*headers.items(), ("grpc-status-details-bin", encoded)])


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (None, "UNSENT", ""),
        (Reply(), "CANCELLED", ""),
        (Reply(ended=1.0, is_late=True), "DEADLINE_EXCEEDED", ""),
        (Reply(ended=1.0, reset=REFUSED), "UNAVAILABLE", ""),
        (Reply(ended=1.0, reset=CANCEL), "CANCELLED", ""),
        (Reply(ended=1.0, reset=2), "INTERNAL", ""),
        (Reply(ended=1.0), "UNAVAILABLE", ""),
        (Reply(ended=1.0, block=Encoder().encode([("grpc-status", "0")])), "OK", ""),
        (Reply(ended=1.0, block=trailers(8)), "RESOURCE_EXHAUSTED", "OVERLOADED"),
    ],
)
def test_a_reply_is_told_as_a_grpc_client_tells_it(reply: Reply | None, status: str, reason: str) -> None:
    assert generator.outcome(reply)[:2] == (status, reason)


def test_the_pushback_of_a_refusal_is_told() -> None:
    reply = Reply(ended=1.0, block=trailers(8, **{"grpc-retry-pushback-ms": "250"}))
    assert generator.outcome(reply)[2] == 250.0


def test_records_are_the_same_when_they_are_read_back(tmp_path: Path) -> None:
    calls = records([0.0, 0.5, 0.7], [0.1, 1.5, 0.2], ["OK", "OK", "RESOURCE_EXHAUSTED"])
    calls.save(tmp_path / "calls.npz")
    back = Records.load(tmp_path / "calls.npz")
    assert back.answers == [b"yes", b"yes", b""]
    assert back.status.tolist() == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert back.good.tolist() == [True, False, False]
    assert back.between(0.5, 0.7).answers == [b"yes"]


@pytest.mark.parametrize(
    ("late", "recovered"),
    [([], 0.0), ([10.1], 0.5), ([10.1, 11.2], 1.5), ([12.9], None)],
)
def test_a_server_has_recovered_when_no_later_window_falls_short(late: list[float], recovered: float | None) -> None:
    due = np.arange(0.0, 13.0, 0.1) + 0.01
    status = ["DEADLINE_EXCEEDED" if any(abs(at - each) < 0.05 for each in late) else "OK" for at in due]
    calls = records(due.tolist(), [0.2] * len(due), status)
    assert overload.recovery(calls, 10.0, 13.0) == recovered


def test_padding_counts_for_the_tokens_that_it_was_computed_with() -> None:
    # Batches of 10 + 30 tokens in 60 cells, and of 5 tokens alone.
    tokens, shares = np.array([10, 30, 5]), np.array([1 / 3, 1 / 3, 0.0])
    assert padded_over_real(tokens, shares) == pytest.approx((60 + 5) / 45)


def test_a_text_has_a_word_for_each_token_between_its_marks() -> None:
    assert [len(text(tokens).split()) + MARKS for tokens in (5, 30, 200)] == [5, 30, 200]
