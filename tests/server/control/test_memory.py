"""The memory that models may take together: what is promised, what is measured, and who is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.runtime.made import DOUBLE, artifact, double

from mercato_server.control.memory import MIB, MemoryBudget, Reservation, predicted_bytes
from mercato_server.errors import MemoryExceeded


def test_loads_side_by_side_are_promised_no_more_than_the_limit() -> None:
    budget = MemoryBudget(100 * MIB)
    budget.reserve("a", 60 * MIB, "shop.a")
    told = (
        "model 'shop.b' is expected to take 41 MiB, but other models hold 60 MiB of the 100 MiB of memory_limit; "
        "unload another model with `mercato admin unload`, or raise memory_limit"
    )
    with pytest.raises(MemoryExceeded) as refused:
        budget.reserve("b", 40 * MIB + 1, "shop.b")
    assert str(refused.value) == told
    budget.reserve("b", 40 * MIB, "shop.b")
    assert budget.used == 100 * MIB


def test_a_model_that_can_never_fit_is_not_told_to_unload_others() -> None:
    with pytest.raises(MemoryExceeded, match=r"other models hold 0 MiB of the 1 MiB of memory_limit; raise memory_lim"):
        MemoryBudget(MIB).reserve("a", 2 * MIB, "shop.a")


def test_what_was_measured_takes_the_place_of_what_was_promised() -> None:
    budget = MemoryBudget(100)
    budget.settle(budget.reserve("a", 90, "shop.a"), 30)
    other = budget.reserve("b", 70, "shop.b")
    with pytest.raises(MemoryExceeded, match=r"model 'shop.b' was measured to take 1 MiB"):
        budget.settle(other, 71)
    budget.release(other)
    assert budget.used == 30


def test_a_later_load_of_a_digest_is_expected_to_take_what_it_took() -> None:
    budget = MemoryBudget(100)
    first = budget.reserve("a", 10, "shop.a")
    budget.settle(first, 60)
    with pytest.raises(MemoryExceeded):
        budget.reserve("a", 10, "shop.a")
    budget.release(first)
    budget.reserve("a", 10, "shop.a")
    assert budget.used == 60


def test_of_two_loads_of_a_digest_each_gives_back_what_is_its_own() -> None:
    budget = MemoryBudget(None)
    old = budget.reserve("a", 10, "shop.a")
    new = budget.reserve("a", 10, "shop.a")
    budget.settle(new, 60)
    budget.release(old)
    assert budget.used == 60


@pytest.mark.parametrize(
    ("others", "told"),
    [
        (0, "other models hold 0 MiB of the 100 MiB of memory_limit; unload what serves of it with `mercato admin "
            "unload shop.a` before it is loaded, or raise memory_limit"),
        (20, "other models hold 20 MiB of the 100 MiB of memory_limit; unload another model with "),
    ],
)  # fmt: skip
def test_what_serves_of_a_model_is_told_apart_from_other_models(others: int, told: str) -> None:
    budget = MemoryBudget(100 * MIB)
    budget.reserve("a", (45 if others else 60) * MIB, "shop.a")
    budget.reserve("b", others * MIB, "shop.b")
    with pytest.raises(MemoryExceeded) as refused:
        budget.reserve("new", (45 if others else 60) * MIB, "shop.a")
    assert f"but what serves of it holds {45 if others else 60} MiB and {told}" in str(refused.value)


def test_where_nothing_can_be_measured_the_promise_counts() -> None:
    budget = MemoryBudget(100)
    budget.settle(budget.reserve("a", 60, "shop.a"), 0)
    assert budget.used == 60


def test_without_a_limit_nothing_is_refused_but_all_is_counted() -> None:
    budget = MemoryBudget(None)
    budget.settle(budget.reserve("a", 10**15, "shop.a"), 10**16)
    assert budget.used == 10**16


def test_a_first_load_is_expected_to_take_what_it_reads(tmp_path: Path) -> None:
    made = artifact(tmp_path, DOUBLE, {"model": double()})
    graph = made.graph("model").stat().st_size
    (tmp_path / "graphs" / "model.onnx.data").write_bytes(bytes(1000))
    (made.files / "table").mkdir()
    (made.files / "table" / "rows.bin").write_bytes(bytes(200))
    assert predicted_bytes(made) == graph + 1200


Step = tuple[str, str, int]
STEPS = st.tuples(st.sampled_from(["reserve", "settle", "release"]), st.sampled_from("abc"), st.integers(0, 60))


@settings(derandomize=True, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_whatever_the_order_what_is_held_passes_the_limit_only_by_what_was_refused(steps: list[Step]) -> None:
    budget, held = MemoryBudget(100), list[Reservation]()
    for kind, digest, nbytes in steps:
        mine = next((one for one in held if one.digest == digest), None)
        try:
            if kind == "reserve":
                held.append(budget.reserve(digest, nbytes, "shop"))
            elif mine is not None and kind == "settle":
                budget.settle(mine, nbytes)
            elif mine is not None:
                budget.release(mine)
                held.remove(mine)
        except MemoryExceeded:
            if mine is not None and kind == "settle":  # its load is undone
                budget.release(mine)
                held.remove(mine)
        assert 0 <= budget.used <= 100
    for reservation in held:
        budget.release(reservation)
    assert budget.used == 0
