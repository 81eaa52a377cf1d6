"""The measure of disagreement, and the shapes that are tried."""

import numpy as np
import pytest

from mercato_plugin import Axis, GraphSpec, Tensor
from mercato_server.contract.batch import Array
from mercato_server.contract.certificate import Case, OutputError
from mercato_server.errors import ParityFailed
from mercato_server.export import cases
from mercato_server.export.ledger import Ledger

CASE = Case("parity", {"x": (2, 2)})
NAN, INF = np.array([np.nan, 1.0]), np.array([np.inf, 1.0])


def verdict(got: Array, expected: Array, tolerance: float = 1e-5) -> OutputError:
    ledger = Ledger("shop.tiny", {"y": tolerance})
    ledger.add("y", CASE, got, expected)
    (error,) = ledger.verdict()
    return error


def test_the_error_is_relative_to_what_was_expected() -> None:
    error = verdict(np.array([3.0, 4.5]), np.array([3.0, 4.0]), tolerance=0.1)

    assert error.rel_l2 == pytest.approx(0.1) and error.max_abs == 0.5


@pytest.mark.parametrize("pair", [(NAN, NAN), (NAN, np.ones(2)), (np.ones(2), NAN), (INF, np.ones(2)), (INF, -INF)])
def test_what_is_not_a_number_never_passes(pair: tuple[Array, Array]) -> None:
    with pytest.raises(ParityFailed, match="not a finite number"):
        verdict(*pair, tolerance=1e300)


def test_equal_infinities_agree() -> None:
    assert verdict(INF, INF).rel_l2 == 0


def test_zeros_are_compared_by_the_difference_itself() -> None:
    assert verdict(np.zeros(3), np.zeros(3)).rel_l2 == 0
    with pytest.raises(ParityFailed):
        verdict(np.full(3, 1e-4), np.zeros(3))


def test_one_case_near_zero_is_measured_by_the_usual_size() -> None:
    ledger = Ledger("shop.tiny", {"y": 1e-5})
    for usual in (100.0, 120.0, 1e-3):
        ledger.add("y", CASE, np.array([usual + 1e-5]), np.array([usual]))

    assert ledger.verdict()[0].rel_l2 == pytest.approx(1e-7)


def test_what_the_author_gave_is_measured_by_its_own_size() -> None:
    ledger = Ledger("shop.tiny", {"y": 1e-5})
    ledger.add("y", CASE, np.array([100.0]), np.array([100.0]))
    ledger.add("y", Case("examples", {}), np.array([1.1e-3]), np.array([1e-3]), given=True)

    with pytest.raises(ParityFailed, match="fails check 'examples'.*relative L2 error 0.1, tolerance 1e-05"):
        ledger.verdict()


def test_what_the_author_gave_is_no_usual_size() -> None:
    ledger = Ledger("shop.tiny", {"y": 1e-5})
    ledger.add("y", CASE, np.array([1.1]), np.array([1.0]))
    for _ in range(3):
        ledger.add("y", Case("examples", {}), np.array([1e9]), np.array([1e9]), given=True)

    with pytest.raises(ParityFailed, match="relative L2 error 0.1"):
        ledger.verdict()


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, object])
def test_types_without_fractions_agree_exactly(dtype: type) -> None:
    left: Array = np.array([0, 1, 1, 1], dtype)
    assert verdict(left, left, tolerance=0).rel_l2 == 0
    with pytest.raises(ParityFailed, match="relative L2 error 0.5"):
        verdict(left, np.array([0, 1, 1, 0], dtype), tolerance=0)


def test_shapes_that_differ_fail() -> None:
    with pytest.raises(ParityFailed, match=r"has shape \(2,\), expected \(1, 2\)"):
        verdict(np.ones(2), np.ones((1, 2)))


def graph(*axes: Axis, ragged: bool = False) -> GraphSpec:
    ids = Tensor("int64", ("batch", *axes), low=5, high=9, pad=-1, ragged=ragged)
    lengths = {"lengths": Tensor("int64", ("batch",))} if ragged else {}
    score = {"score": Tensor("float32", ("batch",))}
    return GraphSpec(inputs={"ids": ids, **lengths}, outputs=score, lengths="lengths" if ragged else None)


def test_each_axis_meets_its_maximum_alone_and_no_case_is_too_large() -> None:
    tried = cases.sizes_to_try(graph(Axis("length", 512), Axis("width", 9)), max_rows=100_000)

    assert {1, 2, 3, 7} <= {sizes["batch"] for sizes in tried}
    assert {1, 2, 171, 512} < {sizes["length"] for sizes in tried} - {5}
    assert {1, 2, 3, 9} <= {sizes["width"] for sizes in tried}
    assert not any(sizes["length"] == 512 and sizes["width"] == 9 for sizes in tried)
    assert all(np.prod(list(sizes.values())) <= cases.MAX_CELLS for sizes in tried)


def test_one_size_between_the_others_is_tried_too() -> None:
    tried = cases.sizes_to_try(graph(Axis("length", 64)), max_rows=32)

    (rows,) = {sizes["batch"] for sizes in tried} - {1, 2, 3, 7, 32}
    (length,) = {sizes["length"] for sizes in tried} - {1, 2, 5, 21, 64}
    assert 7 < rows < 32 and 2 < length < 64
    assert tried == cases.sizes_to_try(graph(Axis("length", 64)), max_rows=32)


def test_no_size_lies_between_neighbours() -> None:
    tried = cases.sizes_to_try(graph(Axis("length", 3)), max_rows=8)

    assert {sizes["batch"] for sizes in tried} == {1, 2, 3, 7, 8}
    assert {sizes["length"] for sizes in tried} == {1, 2, 3}


def test_bytes_without_bounds_have_their_whole_range() -> None:
    for dtype, low, high in (("uint8", 0, 255), ("int8", -128, 127)):
        spec = GraphSpec(inputs={"x": Tensor(dtype, ("batch", 9))}, outputs=graph().outputs)
        values = cases.make(spec, {"batch": 500}, seed=1).arrays["x"]
        assert (values.min(), values.max()) == (low, high)


def test_an_axis_beyond_the_limit_is_cut() -> None:
    tried = cases.sizes_to_try(graph(Axis("length", 100_000)), max_rows=4)

    assert max(sizes["length"] for sizes in tried) == cases.MAX_CELLS


def test_ragged_rows_hold_values_and_then_padding() -> None:
    made = cases.make(graph(Axis("length", 64), ragged=True), {"batch": 20, "length": 11}, seed=4)

    lengths, ids = made.arrays["lengths"], made.arrays["ids"]
    assert lengths.max() == 11 and len(set(lengths.tolist())) > 3
    for row, length in zip(ids, lengths, strict=True):
        assert ((row[:length] >= 5) & (row[:length] <= 9)).all() and (row[length:] == -1).all()


def test_the_same_seed_gives_the_same_values() -> None:
    spec = GraphSpec(inputs={"x": Tensor("float32", ("batch", 2), low=3, high=4)}, outputs=graph().outputs)
    one, two = (cases.make(spec, {"batch": 50}, seed=1).arrays["x"] for _ in range(2))

    np.testing.assert_array_equal(one, two)
    assert ((one >= 3) & (one <= 4)).all() and one.dtype == np.float32
