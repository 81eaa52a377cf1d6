"""A history of calls and of what a plugin ran of them, and what must hold in it: functions that name violations."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Row = tuple[int, ...]
Reference = Callable[[int, Row], Row]
"""From a version and a row of the input to the row that this version answers."""

OK = ("OK", "")


@dataclass(frozen=True)
class Call:
    """One attempt. Times are seconds of the monotonic clock; each row begins with its id, which no other row has.

    `version` is the one that the answer names. `code` and `reason` are those of the status, ("OK", "") for an answer.
    """

    model: str
    rows: Sequence[Row]
    sent: float
    deadline: float
    received: float
    version: int = 0
    outputs: Sequence[Row] = ()
    code: str = "OK"
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        return self.code == "OK"

    @property
    def ids(self) -> list[int]:
        return [row[0] for row in self.rows]

    def __str__(self) -> str:
        return f"{self.model} {self.ids[:4]} sent {self.sent:.3f} got {self.code} {self.reason} at {self.received:.3f}"


@dataclass(frozen=True)
class Execution:
    """A batch as the plugin began it: by which version, in which process, when, and whose rows.

    With `raised` it tells that the batch ended so after it had begun, and may be run again request by request.
    """

    version: int
    pid: int
    began: float
    ids: Sequence[int]
    raised: bool = False


@dataclass(frozen=True)
class Spell:
    """A time in which a version may answer; the test knows a bound on both ends."""

    version: int
    since: float = -math.inf
    until: float = math.inf


def executions(path: Path) -> list[Execution]:
    """What a plugin wrote down; a line that its end has cut is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Execution(**json.loads(line)) for line in lines if line.endswith("}")]


def wrong_answers(calls: Sequence[Call], reference: Reference) -> Iterator[str]:
    """Answers that are not what the version they name computes."""
    for call in calls:
        if call.is_ok and list(call.outputs) != [reference(call.version, row) for row in call.rows]:
            yield f"{call}: not the answer of version {call.version}: {list(call.outputs)[:2]}"


def crossed_rows(calls: Sequence[Call], owner: Callable[[int, Row], int]) -> Iterator[str]:
    """Rows that came to a caller who had not sent them."""
    for call in calls:
        got = [owner(call.version, row) for row in call.outputs]
        if call.is_ok and got != call.ids:
            yield f"{call}: got the rows of {got}"


def untimely_versions(calls: Sequence[Call], spells: Sequence[Spell], grace: float) -> Iterator[str]:
    """Answers of a version that was not yet, or since more than `grace` seconds no longer, to answer."""
    for call in calls:
        own = (spell for spell in spells if spell.version == call.version)
        if call.is_ok and not any(spell.since <= call.received <= spell.until + grace for spell in own):
            yield f"{call}: answered by version {call.version} outside of its time"


def repeated(ran: Sequence[Execution]) -> Iterator[str]:
    """Rows that were run more than once."""
    times = Counter(id for execution in ran if not execution.raised for id in execution.ids)
    times.subtract(id for execution in ran if execution.raised for id in execution.ids)
    yield from (f"row {id} was run {count} times" for id, count in times.items() if count > 1)


def unfounded(calls: Sequence[Call], ran: Sequence[Execution]) -> Iterator[str]:
    """Answers whose rows were not run by the version they name."""
    by = {id: execution.version for execution in ran if not execution.raised for id in execution.ids}
    for call in calls:
        if call.is_ok and {by.get(id) for id in call.ids} != {call.version}:
            yield f"{call}: answered by version {call.version}, run by {sorted({str(by.get(id)) for id in call.ids})}"


def late(calls: Sequence[Call], ran: Sequence[Execution], slack: float) -> Iterator[str]:
    """Executions that began more than `slack` seconds after their caller's deadline."""
    deadlines = {id: call.deadline for call in calls for id in call.ids}
    for execution in ran:
        for id in execution.ids:
            if execution.began > deadlines.get(id, math.inf) + slack:
                yield f"row {id} was begun {execution.began - deadlines[id]:.3f} s after its deadline"


def unknown_errors(calls: Sequence[Call], allowed: Collection[tuple[str, str]]) -> Iterator[str]:
    """Statuses that the contract does not have for what happened."""
    yield from (f"{call}: not an answer to this fault" for call in calls if (call.code, call.reason) not in allowed)


def errors_after(calls: Sequence[Call], calm: float) -> Iterator[str]:
    """Errors of calls that were sent when the fault was over."""
    yield from (f"{call}: the fault was over" for call in calls if call.sent >= calm and not call.is_ok)


def counts(calls: Sequence[Call]) -> Mapping[tuple[str, str], int]:
    """How often each status came."""
    return Counter((call.code, call.reason) for call in calls)
