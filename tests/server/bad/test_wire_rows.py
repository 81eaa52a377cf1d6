"""Bad input on the level of HTTP/2: each row gets its outcome, and the server lives, answers and has not grown."""

import itertools
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from tests.server.bad.wire_page import REASONS, ROWS, TITLES, section
from tests.server.bad.wire_peer import Peer, Reply
from tests.server.bad.wire_rows import ANSWERED, MESSAGES, Outcome, Row, good_call
from tests.server.calls import Wire
from tests.server.running import Running, environment

from mercato.v1 import prediction_pb2

LEAKS = ("Traceback", "Exception", "Unexpected <class", "mercato_server", "site-packages", ".py", "/home")
PAGE = Path(__file__).parents[3] / "docs/reference/bad-input.md"
MIB = 2**20
# Over a base taken after the largest rows. A message of 16 MiB that was unpacked has been three blocks: gRPC's pieces,
# gRPC's whole and Python's. glibc keeps freed ones and gives them back late, in the arenas of two threads. It holds for
# all rows together, so leaks far smaller than a message add up.
KEPT = 2 * 3 * 16 * MIB
# After as many to warm up, so many small bad calls, each on a connection of its own, may take 4 KiB each: a connection
# or a stream that is not freed takes more.
SMALL_CALLS, SMALL_GROWTH = 500, 2 * MIB
# gRPC opens eventfds of its poller as its threads need them.
SPARE_DESCRIPTORS = 6


@dataclass(frozen=True)
class Site:
    """A server, a good way to call it, and what it holds when it is warm."""

    running: Running
    wire: Wire
    memory: int
    descriptors: int

    def check(self) -> None:
        """It lives, answers right, and holds neither memory nor descriptors of callers that have gone."""
        assert self.running.process.poll() is None
        assert self.wire.price(4.0) == pytest.approx(8.0, abs=0.01)
        # A connection's end reaches the server some turns of its loop later; each call is such a turn.
        for _ in range(2000):
            if descriptors(self.running) <= self.descriptors:
                break
            self.wire.price(4.0)
        assert descriptors(self.running) <= self.descriptors
        assert self.running.memory() - self.memory < KEPT


@pytest.fixture(scope="module")
def site(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of the module's own: nobody else connects to it."""
    folder = tmp_path_factory.mktemp("wire")
    running = Running(store, folder / "work", environment(folder / "home", ("mercato-pricing",)))
    try:
        running.ready()
        with grpc.insecure_channel(running.address) as channel:
            wire = Wire(channel)
            for row in (row for row in ROWS if row.number in WARMING):
                sent(running, row)
            wire.price(4.0)
            yield Site(running, wire, running.memory(), descriptors(running) + SPARE_DESCRIPTORS)
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


# The rows that cost the most: bombs, many frames, many streams.
WARMING = (8, 14, 16)


def test_small_bad_calls_leave_no_memory_behind(site: Site) -> None:
    rows = [row for row in MESSAGES if row.number in (1, 2, 3, 9, 10)]

    def run() -> int:
        for row in itertools.islice(itertools.cycle(rows), SMALL_CALLS):
            sent(site.running, row)
        site.check()
        return site.running.memory()

    warm = run()
    assert run() - warm < SMALL_GROWTH


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_row(site: Site, row: Row) -> None:
    site.running.forget_peak()
    before = site.running.memory()
    reply = sent(site.running, row)
    checked(row.outcome, reply)
    if row.answers is not None:
        assert answered(reply) == sorted((key, code.value[0]) for key, code in row.answers)
    assert site.running.peak() - before < row.peak
    site.check()


def test_more_connections_than_descriptors(site: Site) -> None:
    """Number 20: the server accepts again as soon as descriptors are free."""
    usual = resource.prlimit(site.running.pid, resource.RLIMIT_NOFILE)
    room = descriptors(site.running) + 40
    resource.prlimit(site.running.pid, resource.RLIMIT_NOFILE, (room, usual[1]))
    try:
        crowd = [Peer(site.running.address, {}, polite=False) for _ in range(100)]
        # The connection that was there before is served all the time.
        assert site.wire.price(4.0) == pytest.approx(8.0, abs=0.01)
        for peer in crowd:
            peer.close()
        with Peer(site.running.address, {}) as peer:
            checked(ANSWERED, good_call(peer))
    finally:
        resource.prlimit(site.running.pid, resource.RLIMIT_NOFILE, usual)
    site.check()


def test_the_log_blames_nobody_and_shows_no_metadata(site: Site) -> None:
    """Callers who go away, and metadata that is no text, are no errors of the server's."""
    assert "Traceback" not in site.running.log
    assert r"\xff\xfe" not in site.running.log


def test_every_number_has_a_row() -> None:
    assert {row.number for row in ROWS} | {20} == set(range(1, 27)) == set(TITLES)
    assert len({row.label for row in ROWS}) == len(ROWS)


def test_the_document_has_the_rows_as_they_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert section() in text
    assert f"at most {KEPT // MIB} MiB" in text
    assert f"{SMALL_CALLS} small" in text


def sent(running: Running, row: Row) -> Reply:
    with Peer(running.address, row.settings, wide=row.wide, polite=row.polite) as peer:
        return row.send(peer)


def checked(outcome: Outcome, reply: Reply) -> None:
    assert reply.reset == outcome.reset, reply
    assert reply.closed == (outcome.closed or outcome.goaway is not None), reply
    if outcome.goaway is not None:
        assert reply.goaway is not None and reply.goaway.error_code == outcome.goaway
    if outcome.code is not None:
        checked_status(outcome, outcome.code, reply)


def checked_status(outcome: Outcome, code: StatusCode, reply: Reply) -> None:
    text = reply.text
    assert reply.header(":status") == "200"
    assert reply.code in (code, outcome.or_code), reply
    assert outcome.says in text
    assert not [leak for leak in LEAKS if leak in text]
    if code is not StatusCode.OK and not outcome.core:
        assert reply.code is not None
        assert reasons(reply) == [REASONS[reply.code]], reply


def reasons(reply: Reply) -> list[str]:
    """The reason of every ErrorInfo in the details."""
    status = status_pb2.Status.FromString(reply.details)
    infos = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            infos.append(info.reason)
    return infos


def answered(reply: Reply) -> list[tuple[str, int]]:
    """Request id and code of every answer of a stream."""
    answers = [prediction_pb2.PredictStreamResponse.FromString(data) for data in reply.messages]
    assert not [leak for answer in answers for leak in LEAKS if leak in answer.error.message]
    return sorted((answer.request_id, answer.error.code) for answer in answers)


def descriptors(running: Running) -> int:
    return len(list(Path(f"/proc/{running.pid}/fd").iterdir()))
