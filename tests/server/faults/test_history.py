"""The checker itself: a good history passes, and each kind of violation is found in one where it was planted."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.faults.history import (
    OK,
    Call,
    Execution,
    Row,
    Spell,
    crossed_rows,
    errors_after,
    executions,
    late,
    repeated,
    unfounded,
    unknown_errors,
    untimely_versions,
    wrong_answers,
)


def reference(version: int, row: Row) -> Row:
    return tuple(10 * cell + version for cell in row)


def owner(version: int, row: Row) -> int:
    return (row[0] - version) // 10


FIRST = Call("shop.a", [(1, 7), (2, 8)], 1.0, 6.0, 1.5, 1, [(11, 71), (21, 81)])
SECOND = Call("shop.a", [(3, 9)], 2.0, 7.0, 2.5, 2, [(32, 92)])
EXPIRED = Call("shop.a", [(4, 9)], 2.0, 3.0, 3.0, code="DEADLINE_EXCEEDED")
CALLS = [FIRST, SECOND, EXPIRED]
RAN = [Execution(1, 50, 1.2, [1, 2]), Execution(2, 51, 2.1, [3])]
SPELLS = [Spell(1, until=1.6), Spell(2, since=1.6)]
TIMEOUT = ("DEADLINE_EXCEEDED", "")


def found(calls: list[Call], ran: list[Execution] = RAN) -> Iterator[str]:
    yield from wrong_answers(calls, reference)
    yield from crossed_rows(calls, owner)
    yield from untimely_versions(calls, SPELLS, 0.1)
    yield from repeated(ran)
    yield from unfounded(calls, ran)
    yield from late(calls, ran, 0.1)
    yield from unknown_errors(calls, {OK, TIMEOUT})
    yield from errors_after(calls, 3.0)


def test_a_good_history_has_no_violation() -> None:
    assert list(found(CALLS)) == []


def test_a_wrong_answer_is_found() -> None:
    torn = replace(FIRST, outputs=[(11, 71), (21, 0)])
    assert len(list(wrong_answers([torn, SECOND], reference))) == 1


def test_an_answer_of_another_version_than_it_names_is_found() -> None:
    mixed = replace(FIRST, outputs=[(11, 71), (22, 82)])
    assert len(list(wrong_answers([mixed], reference))) == 1


def test_a_row_too_few_is_found() -> None:
    assert len(list(wrong_answers([replace(FIRST, outputs=[(11, 71)])], reference))) == 1


def test_rows_of_another_caller_are_found() -> None:
    swapped = replace(FIRST, outputs=[(21, 81), (11, 71)])
    [told] = crossed_rows([swapped, SECOND], owner)
    assert "got the rows of [2, 1]" in told


@pytest.mark.parametrize(
    ("call", "received"), [(SECOND, 1.5), (FIRST, 1.8)], ids=["before it was there", "after it was gone"]
)
def test_an_answer_outside_of_a_versions_time_is_found(call: Call, received: float) -> None:
    assert len(list(untimely_versions([replace(call, received=received)], SPELLS, 0.1))) == 1


def test_an_answer_within_the_grace_is_fine() -> None:
    assert list(untimely_versions([replace(FIRST, received=1.65)], SPELLS, 0.1)) == []


def test_a_version_that_nobody_knows_of_is_found() -> None:
    assert len(list(untimely_versions([replace(FIRST, version=3)], SPELLS, math.inf))) == 1


def test_a_second_execution_is_found() -> None:
    assert list(repeated([*RAN, Execution(1, 52, 1.3, [2])])) == ["row 2 was run 2 times"]


def test_a_run_after_one_that_raised_is_fine() -> None:
    first = Execution(1, 50, 1.1, [1, 2])
    assert list(repeated([first, replace(first, raised=True), *RAN])) == []
    assert len(list(repeated([first, first, replace(first, raised=True), *RAN]))) == 2


def test_an_answer_that_nobody_computed_is_found() -> None:
    assert len(list(unfounded(CALLS, RAN[:1]))) == 1


def test_an_answer_that_names_another_version_than_ran_is_found() -> None:
    assert len(list(unfounded(CALLS, [RAN[0], replace(RAN[1], version=1)]))) == 1


def test_an_execution_after_its_deadline_is_found() -> None:
    [told] = late(CALLS, [*RAN, Execution(2, 51, 3.5, [4])], 0.1)
    assert told == "row 4 was begun 0.500 s after its deadline"


def test_an_execution_of_rows_that_nobody_waits_for_has_no_deadline() -> None:
    assert list(late(CALLS, [Execution(1, 50, 99.0, [77])], 0.1)) == []


def test_a_status_that_does_not_belong_here_is_found() -> None:
    leaked = replace(EXPIRED, code="UNKNOWN")
    assert len(list(unknown_errors([*CALLS, leaked], {OK, TIMEOUT}))) == 1


def test_an_error_when_the_fault_is_over_is_found() -> None:
    afterwards = replace(EXPIRED, sent=3.5)
    assert len(list(errors_after([*CALLS, afterwards], 3.0))) == 1


def test_executions_are_read_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "executions"
    assert executions(log) == []
    log.write_text('{"version": 1, "pid": 50, "began": 1.2, "ids": [1, 2]}\n{"version": 2, "pi')
    assert executions(log) == RAN[:1]
