"""Admission: permits in requests and in bytes, refused at once with the time to come back."""

import pytest

from mercato_server.errors import Overloaded
from mercato_server.serving.admission import Admission


def admission(max_requests: int = 2, max_bytes: int = 100) -> Admission:
    return Admission("shop.tiny", max_requests=max_requests, max_bytes=max_bytes)


def test_the_supply_of_requests_is_bounded() -> None:
    permits = admission()
    permits.take(1, lambda: 0.5)
    permits.take(1, lambda: 0.5)
    with pytest.raises(Overloaded, match="'shop.tiny' has 2 requests in flight, its limit; retry later") as caught:
        permits.take(1, lambda: 0.75)

    assert (caught.value.retry_after, caught.value.model) == (0.75, "shop.tiny")
    permits.give_back(1)
    permits.take(1, lambda: 0.5)


def test_the_supply_of_bytes_is_bounded() -> None:
    permits = admission(max_requests=10)
    permits.take(60, lambda: 0)
    permits.take(40, lambda: 0)
    with pytest.raises(Overloaded, match="holds 100 bytes of requests, 1 more would pass its limit of 100") as caught:
        permits.take(1, lambda: 0.25)

    assert caught.value.retry_after == 0.25
    permits.give_back(60)
    permits.take(60, lambda: 0)


def test_one_large_request_fits_when_nothing_else_is_in_flight() -> None:
    permits = admission()
    permits.take(10_000, lambda: 0)
    with pytest.raises(Overloaded):
        permits.take(1, lambda: 0)
    permits.give_back(10_000)

    assert (permits.requests, permits.bytes) == (0, 0)
    permits.take(10_000, lambda: 0)


def test_the_drain_is_estimated_for_refusals_only() -> None:
    def never() -> float:
        raise AssertionError("asked for the drain time of an admitted request")

    admission().take(1, never)


def test_a_refusal_takes_no_permit() -> None:
    permits = admission(max_requests=1)
    permits.take(5, lambda: 0)
    for _ in range(3):
        with pytest.raises(Overloaded):
            permits.take(5, lambda: 0)

    assert (permits.requests, permits.bytes) == (1, 5)


def test_each_front_counts_its_own_share() -> None:
    first, second = admission(max_requests=1), admission(max_requests=1)
    first.take(5, lambda: 0)
    second.take(7, lambda: 0)
    first.give_back(5)

    assert (first.requests, first.bytes, second.requests, second.bytes) == (0, 0, 1, 7)
    with pytest.raises(Overloaded, match="has 1 requests in flight"):
        second.take(1, lambda: 0)
