"""One version inside a worker process, asked over real links by one front and by two."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.server.runtime.made import answering, joined, worker

from mercato_plugin import Batch, Model
from mercato_server.runtime.child import Version
from mercato_server.runtime.link import Kind, Link, Message, pair
from mercato_server.runtime.packing import pack_batch, unpack_result


class Front:
    """The serving process's end of one link."""

    def __init__(self, version: Version) -> None:
        ours, theirs = pair()
        self.link = Link(ours, 2)
        version.serve(Link(theirs, 2))

    def ask(self, kind: Kind, row: float | None = None) -> Message:
        self.send(kind, row)
        return self.next()

    def send(self, kind: Kind, row: float | None = None) -> None:
        self.link.send(kind, 1, None if row is None else pack_batch(joined(row)))

    def next(self) -> Message:
        message = self.link.receive()
        assert message is not None
        return message

    def answer(self) -> float:
        message = self.next()
        assert message.kind == Kind.DONE
        return float(unpack_result(message.view, message.head).outputs["y"][0, 0])


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "worker shop.double"}


def test_two_fronts_share_one_worker_and_its_code_runs_on_one_thread_at_a_time(tmp_path: Path) -> None:
    loads: list[Any] = []
    inside, go, at_once = threading.Event(), threading.Event(), []
    busy = threading.Lock()

    def told(batch: Batch, outputs: Any) -> Any:
        at_once.append(busy.acquire(blocking=False))
        if 5 in batch.inputs["x"]:
            inside.set()
            assert go.wait(10)
        busy.release()
        return outputs

    def make() -> Any:
        loads.append(1)
        return worker(tmp_path, answering(told), examples=[{"x": [[1, 2]]}])

    version = Version("shop.double", make)
    one, other = Front(version), Front(version)
    for front in (one, other):
        assert front.ask(Kind.LOAD).kind == Kind.DONE
        assert json.loads(front.ask(Kind.WARM).head)["providers"] == ["cpu"]
    one.send(Kind.RUN, 5)
    assert inside.wait(10)
    other.send(Kind.RUN, 6)
    go.set()
    assert (one.answer(), other.answer()) == (10, 12)
    assert len(loads) == 1 and all(at_once)

    assert one.ask(Kind.CLOSE).kind == Kind.DONE
    other.send(Kind.RUN, 7)
    assert other.answer() == 14
    assert other.ask(Kind.CLOSE).kind == Kind.DONE
    assert one.link.receive() is None and other.link.receive() is None
    for front in (one, other):
        front.link.close()


def test_a_front_that_goes_away_ends_its_thread(tmp_path: Path) -> None:
    before = threads()
    front = Front(Version("shop.double", lambda: worker(tmp_path)))
    (thread,) = threads() - before
    front.link.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_front_that_goes_away_while_its_batch_runs_leaves_the_others_alone(tmp_path: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    def told(batch: Batch, outputs: Any) -> Any:
        if 5 in batch.inputs["x"]:
            inside.set()
            assert go.wait(10)
        return outputs

    version = Version("shop.double", lambda: worker(tmp_path, answering(told)))
    before = threads()
    gone = Front(version)
    (thread,) = threads() - before
    other = Front(version)
    gone.ask(Kind.LOAD)
    other.ask(Kind.LOAD)
    gone.send(Kind.RUN, 5)
    assert inside.wait(10)
    gone.link.close()
    go.set()
    thread.join(10)
    assert not thread.is_alive()
    other.send(Kind.RUN, 1)
    assert other.answer() == 2
    other.ask(Kind.CLOSE)
    other.link.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda outputs: 1 / 0, "model 'shop.double' failed (id "),
        (lambda outputs: {"y": outputs["y"].astype(object)}, "the signature says float32"),
    ],
    ids=["raises", "objects"],
)
def test_a_fault_is_told_and_the_next_batch_runs(tmp_path: Path, answer: Any, says: str) -> None:
    def moody(batch: Batch, outputs: Any) -> Any:
        return answer(outputs) if 13 in batch.inputs["x"] else outputs

    front = Front(Version("shop.double", lambda: worker(tmp_path, answering(moody))))
    front.ask(Kind.LOAD)
    failed = front.ask(Kind.RUN, 13)
    facts = json.loads(failed.head)
    assert failed.kind == Kind.FAILED and facts["reason"] == "PLUGIN_FAULT"
    assert says in facts["message"] and facts["id"] in facts["message"]
    front.send(Kind.RUN, 1)
    assert front.answer() == 2
    front.ask(Kind.CLOSE)
    front.link.close()


def test_a_batch_before_the_load_is_a_fault_and_a_failed_load_may_be_tried_again(tmp_path: Path) -> None:
    made: list[int] = []

    class Leaving(Model):
        def load(self, ctx: Any) -> None:
            if len(made) == 1:
                raise SystemExit(1)

    def make() -> Any:
        made.append(1)
        folder = tmp_path / str(len(made))
        folder.mkdir()
        return worker(folder, Leaving)

    front = Front(Version("shop.double", make))
    assert front.ask(Kind.RUN, 1).kind == Kind.FAILED
    failed = front.ask(Kind.LOAD)
    assert json.loads(failed.head) == {
        "reason": "LOAD_FAILED",
        "message": "load of shop.double raised SystemExit: 1",
    }
    assert front.ask(Kind.LOAD).kind == Kind.DONE
    front.send(Kind.RUN, 1)
    assert front.answer() == 2
    front.ask(Kind.CLOSE)
    front.link.close()
