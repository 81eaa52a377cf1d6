"""Every number of the table of bad input has a row, a test, or the name of the part that it waits for."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tests.server.bad
from tests.docs.pages import ROOT, read, sections
from tests.server.bad.memory import CALLS
from tests.server.bad.messages_page import SECTIONS, section
from tests.server.bad.test_fuzz import ONCE, PER_FIELD
from tests.server.bad.test_messages import COPIES, EXPANSION, KEPT, MIB, PARSED, STEPS

BAD = "tests/server/bad"
# Numbers that are about a course of events rather than one request.
TESTED = {
    20: (f"{BAD}/test_wire_rows.py", "test_more_connections_than_descriptors"),
    36: (f"{BAD}/test_messages.py", "test_no_request_holds_a_message_of_any_type"),
    64: (f"{BAD}/test_messages.py", "test_requests_of_a_batch_fail_alone"),
    68: ("tests/server/runtime/test_bounds.py", "test_an_array_that_is_not_aligned_is_run_right"),
    75: ("tests/server/test_serve.py", "test_sigterm_answers_what_was_accepted"),
    76: ("tests/server/faults/test_storms.py", "test_storms_of_loads_and_unloads"),
    77: ("tests/server/security/test_admin.py", "test_the_listener_answers_no_prediction"),
    78: ("tests/server/security/test_admin.py", "test_no_certificate_administers_through_the_data_port"),
    79: (f"{BAD}/test_messages.py", "test_cancels_leave_nothing_behind"),
    80: (f"{BAD}/test_messages.py", "test_a_deadline_that_passes_is_told_as_such"),
    87: ("tests/server/control/test_bad_plugins.py", "def test_"),
}
OIP = "the Open Inference Protocol"
WAITING = {
    29: OIP, 54: OIP, 55: OIP, 57: OIP, 60: OIP, 61: OIP,
    82: "model folders",
}  # fmt: skip
# Their tables are written one after the other; a table that has begun must be whole.
PARTS = {"wire": range(1, 27), "messages": range(27, 81), "files": range(81, 85), "media": range(85, 87)}


def rows() -> Iterator[int]:
    """The numbers of all rows in all tables of the folder."""
    for module in pkgutil.iter_modules(tests.server.bad.__path__):
        if not module.name.startswith("test_"):
            held = vars(importlib.import_module(f"tests.server.bad.{module.name}")).values()
            lists = (value for value in held if isinstance(value, list))
            yield from (row.number for rows in lists for row in rows if hasattr(row, "number"))


COVERED = {*rows(), *TESTED, *WAITING}


@pytest.mark.parametrize("part", [part for part in PARTS if list((ROOT / BAD).glob(f"{part}*.py"))])
def test_every_number_is_covered(part: str) -> None:
    assert set(PARTS[part]) - COVERED == set()


def test_plugins_are_covered() -> None:
    assert 87 in COVERED


@pytest.mark.parametrize("number", TESTED)
def test_what_has_no_row_has_its_test(number: int) -> None:
    path, name = TESTED[number]
    assert name in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("number", WAITING)
def test_what_is_not_built_stands_in_the_document(number: int) -> None:
    section = sections(read("docs/reference/bad-input.md"))["Not built yet"]
    assert f"| {number} |" in section and WAITING[number] in section


def test_tables_are_where_they_are_looked_for() -> None:
    assert Path(tests.server.bad.__path__[0]) == ROOT / BAD


# --- the document -----------------------------------------------------------------------------------------------------

PAGE = "docs/reference/bad-input.md"


@pytest.mark.parametrize("name", SECTIONS)
def test_the_document_has_the_rows_as_they_are(name: str) -> None:
    assert section(name) in sections(read(PAGE))[name]


def test_the_document_lists_nothing_else_as_missing() -> None:
    numbers = re.findall(r"^\| (\d+) \|", sections(read(PAGE))["Not built yet"], re.MULTILINE)
    assert [int(number) for number in numbers] == sorted(WAITING)


def test_the_document_states_the_bounds_that_are_tested() -> None:
    text = read(PAGE)
    assert f"at most {KEPT // MIB} MiB more" in text
    assert f"at most {PARSED // MIB} MiB and three times" in text and COPIES == 3
    assert f"for a smaller one {STEPS // MIB} MiB and {EXPANSION} times" in text
    assert f"at most {PER_FIELD} bytes of memory a field" in text
    assert f"{CALLS // 1000} 000 mixed" in text and f"{ONCE.max_examples} calls and {ONCE.max_examples} streams" in text
