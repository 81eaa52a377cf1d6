"""Permits: in requests and bytes, of models and the process, given back once; shares and quotas of callers."""

import pytest

from mercato_server.serving.admission import Callers, Permit, Pool


def taken(pool: Pool, *sizes: int) -> list[Permit]:
    return [Permit((pool,), Callers(), "", size) for size in sizes]


def test_the_supply_of_requests_is_bounded() -> None:
    pool = Pool(max_requests=2, max_bytes=100)
    first, _ = taken(pool, 1, 1)
    assert pool.lacks(1) == "2 requests in flight, its limit"
    first.release()
    assert pool.lacks(1) == ""


def test_the_supply_of_bytes_is_bounded() -> None:
    pool = Pool(max_requests=10, max_bytes=100)
    first, _ = taken(pool, 60, 40)
    assert pool.lacks(1) == "100 bytes of requests in flight, 1 more would pass its limit of 100"
    first.release()
    assert pool.lacks(60) == "" and pool.lacks(61)


def test_one_large_request_fits_when_nothing_else_is_in_flight() -> None:
    pool = Pool(max_requests=10, max_bytes=100)
    assert pool.lacks(10_000) == ""
    [large] = taken(pool, 10_000)
    assert pool.lacks(1)
    large.release()
    assert (pool.requests, pool.bytes) == (0, 0)


def test_a_permit_is_given_back_once_to_all_who_count_it() -> None:
    model, process, callers = Pool(max_requests=9, max_bytes=9), Pool(max_requests=9, max_bytes=9), Callers()
    first = Permit((model, process), callers, "orders", 3)
    second = Permit((process,), callers, "orders", 4)
    assert (model.requests, process.requests, process.bytes, callers.requests) == (1, 2, 7, {"orders": 2})
    for _ in range(3):
        first.release()
    assert (model.requests, process.requests, process.bytes, callers.requests) == (0, 1, 4, {"orders": 1})
    second.release()
    assert (process.requests, callers.requests) == (0, {})


def test_each_front_counts_its_own_share() -> None:
    first, second = Pool(max_requests=1, max_bytes=9), Pool(max_requests=1, max_bytes=9)
    taken(second, 7)
    assert (first.requests, second.requests) == (0, 1)
    assert first.lacks(1) == "" and second.lacks(1)


@pytest.mark.parametrize(("caller", "weight", "quota"), [("orders", 2.0, 3), ("search", 1.0, None), ("nobody", 0.5, 7)])
def test_who_is_not_named_gets_what_everybody_gets(caller: str, weight: float, quota: int | None) -> None:
    callers = Callers({"orders": 2.0, "search": 1.0, "*": 0.5}, {"orders": 3, "search": None, "*": 7})
    assert (callers.weight(caller), callers.quota(caller)) == (weight, quota)


def test_a_quota_bounds_one_caller_and_no_other() -> None:
    pool, callers = Pool(max_requests=9, max_bytes=9), Callers(quotas={"*": 2})
    permits = [Permit((pool,), callers, "orders", 1) for _ in range(2)]
    assert callers.is_over("orders") and not callers.is_over("search")
    permits[0].release()
    assert not callers.is_over("orders")
    assert Callers().is_over("orders") is False
