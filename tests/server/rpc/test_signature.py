"""A signature on the wire: what a caller is told of rows, ragged values and rankings."""

from dataclasses import replace

import pytest

from mercato.v1 import catalog_pb2
from mercato_plugin import Axis, BatchPolicy, Int, ModelSpec, Tensor, TopK
from mercato_server.rpc.codec import WIRE
from mercato_server.rpc.signature import signature_message

SPEC = ModelSpec(
    name="shop.rank",
    inputs={
        "item": Tensor("int64"),
        "history": Tensor("int64", (Axis("history", max=200),), shared=True, ragged=True, optional=True),
    },
    outputs={"score": Tensor("float32")},
    parameters={"k": Int(10, low=1, high=100)},
    top_k=TopK(by="score", k="k", index="place"),
)


def test_a_ranking_is_told_with_the_output_that_the_server_adds() -> None:
    message = signature_message(SPEC, "f1")
    score, place = message.outputs

    assert message.top_k == catalog_pb2.TopK(by="score", k="k", index="place")
    assert (score.name, place.name, place.dtype, place.low) == ("score", "place", WIRE["int64"], 0)
    assert place.doc == "the row's place among the rows of the request, counted from 0"


def test_without_a_ranking_the_outputs_are_the_models_own() -> None:
    message = signature_message(replace(SPEC, top_k=None), "f1")

    assert [item.name for item in message.outputs] == ["score"]
    assert not message.HasField("top_k")


@pytest.mark.parametrize(("policy", "rows"), [(BatchPolicy(), 1024), (BatchPolicy(max_rows=4, request_rows=9), 9)])
def test_the_batch_axis_is_as_long_as_a_request(policy: BatchPolicy, rows: int) -> None:
    message = signature_message(replace(SPEC, batch=policy), "f1")

    assert message.inputs[0].axes[0] == catalog_pb2.Axis(name="batch", max=rows)
    assert [item.axes[0].max for item in message.outputs] == [rows, rows]


def test_a_shared_ragged_input_has_its_length_alone() -> None:
    history = signature_message(SPEC, "f1").inputs[1]

    assert (history.shared, history.ragged, history.optional) == (True, True, True)
    assert list(history.axes) == [catalog_pb2.Axis(name="history", max=200)]
    assert list(history.default_value.shape) == [1]
