"""Values outside what a graph takes: the caller's mistake where they are the caller's, and only that caller's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.server.runtime.made import artifact, graph

from mercato_plugin import Axis, Batch, Graphs, GraphSpec, Model, ModelSpec, Ragged, Tensor
from mercato_server.contract.batch import BatchResult, JoinedBatch
from mercato_server.contract.plugin import OfferedModel, PluginInfo
from mercato_server.errors import InvalidRequest, LoadFailed, PluginFault
from mercato_server.runtime.worker import Worker

ROWS = 5
IDS = Tensor("int64", ("batch", 2))
FOUND = {"y": Tensor("float32", ("batch", 2))}
LENGTH = Axis("length", max=4)
TABLE = [float(n) for n in range(ROWS)]


def lookup(shape: list[str | int], op: str = "Gather", kind: int = TensorProto.INT64) -> Any:
    """y = table[ids], of a table of five numbers; GatherND takes one axis more."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [ROWS], TABLE)
    last = helper.make_tensor("last", TensorProto.INT64, [1], [-1])
    nodes = [
        helper.make_node("Cast", ["ids"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "last"], ["each"]),
        helper.make_node(op, ["table", "each" if op == "GatherND" else "whole"], ["y"]),
    ]
    made = graph(nodes, {"ids": (kind, shape)}, {"y": (TensorProto.FLOAT, shape)})
    made.graph.initializer.extend([table, last])
    return made


def served(folder: Path, spec: ModelSpec, model: type[Model] = Model, made: Any = None, **facts: Any) -> Worker:
    one = model()
    one.spec = spec
    offered = OfferedModel(PluginInfo("mercato-made", "1.0", "made", "made"), one, spec)
    graphs = {"model": made or lookup(["batch", 2])}
    worker = Worker(offered, artifact(folder, spec, graphs, **facts), provider="cpu", threads=1)
    worker.load()
    return worker


def spec_of(ids: Tensor = IDS, **facts: Any) -> ModelSpec:
    return ModelSpec(name="shop.table", inputs={"ids": ids}, outputs=FOUND, **facts)


def batch(*rows: list[int], kind: str = "int64", **facts: Any) -> JoinedBatch:
    return JoinedBatch({"ids": np.array(rows, kind)}, len(rows), **facts)


def found(result: BatchResult) -> list[list[float]]:
    answer: list[list[float]] = result.outputs["y"].tolist()
    return answer


# --- nothing is declared ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Gather", "GatherND"])
@pytest.mark.parametrize("wrong", [5, 2**31, 2**63 - 1, -6, -(2**63)])
def test_what_the_graph_refuses_of_the_callers_own_values_is_the_callers_mistake(
    tmp_path: Path, op: str, wrong: int
) -> None:
    worker = served(tmp_path, spec_of(), made=lookup(["batch", 2], op))
    with pytest.raises(InvalidRequest) as caught:
        worker.run(batch([0, 1], [2, wrong]))
    [violation] = caught.value.violations
    assert (violation.field, violation.description) == (
        "inputs.ids",
        "the values lie outside what the model's graph takes",
    )
    assert str(wrong) not in str(caught.value)
    assert found(worker.run(batch([0, 4]))) == [[0, 4]]


def test_negative_indices_count_from_the_end_where_no_low_is_declared(tmp_path: Path) -> None:
    assert found(served(tmp_path, spec_of()).run(batch([-1, -5]))) == [[4, 0]]


def test_a_missing_low_alone_leaves_the_graph_to_refuse(tmp_path: Path) -> None:
    worker = served(tmp_path, spec_of(replace(IDS, high=ROWS - 1)))
    with pytest.raises(InvalidRequest, match="inputs.ids: the values lie outside"):
        worker.run(batch([-6, 0]))


def test_numbers_that_the_graph_casts_itself(tmp_path: Path) -> None:
    spec = spec_of(Tensor("float32", ("batch", 2)))
    worker = served(tmp_path, spec, made=lookup(["batch", 2], kind=TensorProto.FLOAT))
    with pytest.raises(InvalidRequest, match="inputs.ids"):
        worker.run(batch([9, 0], kind="float32"))


def test_every_input_that_may_be_the_one_is_named(tmp_path: Path) -> None:
    made = lookup(["batch", 2])
    made.graph.input.extend(
        [
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("shift", TensorProto.INT64, ["batch", 2]),
        ]
    )
    inputs = {"ids": IDS, "weight": Tensor("float32", ("batch", 2)), "shift": IDS}
    worker = served(tmp_path, ModelSpec(name="shop.table", inputs=inputs, outputs=FOUND), made=made)
    zeros = np.zeros((1, 2), np.int64)
    with pytest.raises(InvalidRequest, match=r"inputs.ids: the values \(or those of shift\) lie outside"):
        worker.run(JoinedBatch({"ids": zeros + 9, "weight": zeros.astype(np.float32), "shift": zeros}, 1))


def test_values_that_the_plugin_made_are_its_own_fault(tmp_path: Path) -> None:
    class Adding(Model):
        def preprocess(self, batch: Batch) -> Any:
            return {"ids": batch.inputs["ids"] + 1}

    worker = served(tmp_path, spec_of(), Adding)
    with pytest.raises(PluginFault):
        worker.run(batch([4, 0]))
    assert found(worker.run(batch([3, 0]))) == [[4, 1]]


def test_a_wrong_type_is_no_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(PluginFault):
        served(tmp_path, spec_of()).run(batch([0, 0], kind="int32"))


# --- bounds are declared ----------------------------------------------------------------------------------------------

INSIDE = replace(IDS, low=0, high=ROWS - 1)
KEYS = ModelSpec(
    name="shop.table",
    inputs={"key": IDS},
    outputs=FOUND,
    graph=GraphSpec(inputs={"ids": INSIDE}, outputs=FOUND),
)


class Halving(Model):
    """ids = key // 2."""

    def preprocess(self, batch: Batch) -> Mapping[str, Any]:
        return {"ids": batch.inputs["key"] // 2}


def keys(*rows: list[int]) -> JoinedBatch:
    return JoinedBatch({"key": np.array(rows, np.int64)}, len(rows))


def test_only_the_rows_outside_a_graphs_bounds_are_rejected(tmp_path: Path) -> None:
    result = served(tmp_path, KEYS, Halving).run(keys([0, 9], [10, 0], [2, 4], [-2, 0]))
    why = "got values outside 0 to 4 for the graph's input 'ids'"
    assert result.rejected == {1: ("ids", why), 3: ("ids", why)}
    assert [found(result)[row] for row in (0, 2)] == [[0, 4], [1, 2]]


def test_a_batch_of_nothing_else_is_rejected_whole(tmp_path: Path) -> None:
    assert set(served(tmp_path, KEYS, Halving).run(keys([10, 0], [-2, 0])).rejected) == {0, 1}


def test_a_field_of_the_same_name_is_named_as_the_callers(tmp_path: Path) -> None:
    spec = replace(KEYS, inputs={"ids": IDS})
    result = served(tmp_path, spec).run(batch([0, 5], [1, 2]))
    assert result.rejected == {0: ("ids", "got values outside 0 to 4")}
    assert found(result)[1] == [1, 2]


def test_nan_is_outside_every_bound(tmp_path: Path) -> None:
    share = Tensor("float32", ("batch", 2), low=0, high=1, finite=False)
    free = replace(share, low=None, high=None)
    graphs = GraphSpec(inputs={"ids": share}, outputs=FOUND)
    spec = ModelSpec(name="shop.share", inputs={"x": free}, outputs=FOUND, graph=graphs)

    class Renamed(Model):
        def preprocess(self, batch: Batch) -> Any:
            return {"ids": batch.inputs["x"]}

    worker = served(tmp_path, spec, Renamed, lookup(["batch", 2], kind=TensorProto.FLOAT))
    rows = np.array([[0, 1], [np.nan, 0], [0, 1.5]], np.float32)
    assert set(worker.run(JoinedBatch({"x": rows}, 3)).rejected) == {1, 2}


def test_rows_of_different_length_are_checked_by_their_values(tmp_path: Path) -> None:
    ids = Tensor("int64", ("batch", LENGTH), ragged=True, pad=-1, low=0, high=ROWS - 1)
    spec = replace(KEYS, outputs={"y": FOUND["y"]}, graph=GraphSpec(inputs={"ids": ids}, outputs=FOUND))

    class Cutting(Model):
        def preprocess(self, batch: Batch) -> Any:
            key = batch.inputs["key"]
            return {"ids": Ragged.from_rows([row[row != 99] for row in key], "int64")}

        def postprocess(self, outputs: Any, batch: Batch) -> Any:
            return {"y": np.resize(outputs["y"], (batch.rows, 2))}

    worker = served(tmp_path, spec, Cutting, lookup(["batch", "length"]))
    assert set(worker.run(keys([0, 99], [5, 0], [1, 2], [3, -1])).rejected) == {1, 3}


def test_padding_of_a_rectangular_array_is_no_value(tmp_path: Path) -> None:
    ids = Tensor("int64", ("batch", LENGTH), ragged=True, pad=-1, low=0, high=ROWS - 1)
    outputs = {"y": Tensor("float32", ("batch", LENGTH))}
    graphs = GraphSpec(inputs={"ids": ids}, outputs=outputs)
    spec = ModelSpec(name="shop.table", inputs={"key": IDS}, outputs=outputs, graph=graphs)

    class Renamed(Model):
        def preprocess(self, batch: Batch) -> Any:
            return {"ids": batch.inputs["key"]}

    worker = served(tmp_path, spec, Renamed, lookup(["batch", "length"]))
    result = worker.run(keys([0, -1], [-2, 1]))
    assert set(result.rejected) == {1} and found(result)[0] == [0, 4]


def test_what_stands_for_an_absent_value_is_the_authors_own(tmp_path: Path) -> None:
    ids = replace(IDS, low=1, high=ROWS - 1, optional=True)
    spec = replace(spec_of(ids), graph=GraphSpec(inputs={"ids": replace(ids, low=2)}, outputs=FOUND))
    given = batch([0, 0], [1, 1], [2, 2], present={"ids": np.array([False, True, True])})
    assert set(served(tmp_path, spec).run(given).rejected) == {1}


def test_runs_over_other_rows_than_the_callers_refuse_the_whole_batch(tmp_path: Path) -> None:
    class Flat(Model):
        def predict(self, batch: Batch, graphs: Graphs) -> Any:
            pairs = batch.inputs["key"].reshape(-1, 1).repeat(2, axis=1)
            return {"y": graphs.run({"ids": pairs})["y"][: batch.rows]}

    worker = served(tmp_path, KEYS, Flat)
    with pytest.raises(InvalidRequest, match="inputs.ids: got values outside 0 to 4 for the graph's input 'ids'"):
        worker.run(keys([0, 1], [2, 9]))
    assert found(worker.run(keys([0, 1]))) == [[0, 0]]


def test_lists_are_checked_like_arrays(tmp_path: Path) -> None:
    class Listing(Model):
        def preprocess(self, batch: Batch) -> Any:
            return {"ids": batch.inputs["key"].tolist()}

    assert set(served(tmp_path, KEYS, Listing).run(keys([0, 1], [2, 9])).rejected) == {1}


def test_an_example_outside_the_bounds_fails_warm_up(tmp_path: Path) -> None:
    worker = served(tmp_path, KEYS, Halving, examples=[{"key": [[0, 99]]}])
    with pytest.raises(LoadFailed, match="all rows of an example were rejected: ids: got values outside 0 to 4"):
        worker.warm()


# --- how arrays lie in memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 3, 7])
def test_an_array_that_is_not_aligned_is_run_right(tmp_path: Path, offset: int) -> None:
    """The bytes of a request begin anywhere in its message."""
    rows = np.frombuffer(bytes(offset) + np.array([[0, 4], [1, 2]], np.int64).tobytes(), np.int64, offset=offset)
    assert rows.flags.aligned == (offset == 0)
    assert found(served(tmp_path, spec_of()).run(JoinedBatch({"ids": rows.reshape(2, 2)}, 2))) == [[0, 4], [1, 2]]
