"""Counting fields on raw bytes, and arbitrary bytes as a request: nothing but InvalidRequest comes out."""

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_server.errors import InvalidRequest
from mercato_server.rpc.prediction import parse
from mercato_server.rpc.wire import FLAT, PREDICT, check_field_count

steady = settings(derandomize=True, database=None, deadline=None, max_examples=400)

# Bytes that look like protobuf more often than noise does: tags of every wire type, lengths, padding.
TAGS = st.builds(lambda number, kind: bytes([number << 3 | kind]), st.integers(0, 15), st.integers(0, 7))
LENGTHS = st.sampled_from([b"\0", b"\1", b"\2", b"\x7f", b"\x80\1", b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\1"])
LIKELY = st.lists(st.one_of(TAGS, LENGTHS, st.binary(max_size=4)), max_size=60).map(b"".join)


def request(entries: int) -> bytes:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_BOOL, shape=[1], data=b"\0")
    inputs = [tensor_pb2.NamedTensor(name="x", tensor=tensor)] * entries
    return prediction_pb2.PredictRequest(inputs=inputs).SerializeToString()


@steady
@given(st.one_of(st.binary(max_size=200), LIKELY), st.integers(0, 20))
@example(b"\x12", 0)
@example(b"\x12\x80", 0)
@example(b"\x09\0", 0)
@example(b"\xff" * 11, 0)
def test_counting_raises_nothing_but_invalid_request(data: bytes, limit: int) -> None:
    for tree in (PREDICT, FLAT):
        with contextlib.suppress(InvalidRequest):
            check_field_count(data, tree, limit)


@steady
@given(st.one_of(st.binary(max_size=200), LIKELY))
def test_parsing_raises_nothing_but_invalid_request(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse(data, 10), prediction_pb2.PredictRequest)


@steady
@given(st.integers(0, 40), st.integers(0, 300))
def test_a_good_message_is_refused_exactly_above_the_limit(entries: int, limit: int) -> None:
    fields = 7 * entries  # input, name, tensor, dtype, shape, its one byte, data
    data = request(entries)
    if fields > limit and len(data) > 2 * limit:
        with pytest.raises(InvalidRequest, match=f"more than {limit} fields"):
            parse(data, limit)
    else:
        assert len(parse(data, limit).inputs) == entries


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_cut_message_is_refused(cut: int) -> None:
    with pytest.raises(InvalidRequest):
        parse(request(3)[:-cut], 10)


def test_counting_stops_at_the_limit() -> None:
    """Bytes behind the limit are never looked at, so that a flood costs no more than the limit."""
    with pytest.raises(InvalidRequest, match="more than 10 fields"):
        check_field_count(b"\x12\0" * 11 + b"\xff" * 100, PREDICT, 10)
