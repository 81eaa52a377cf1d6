"""The worker: a plugin's code around a real graph, and what becomes of its faults."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.runtime.made import DOUBLE, X, answering, artifact, double, joined, loaded, worker

from mercato_plugin import (
    Axis,
    Batch,
    BatchPolicy,
    Graphs,
    GraphSpec,
    Int,
    InvalidInput,
    Label,
    Model,
    ModelSpec,
    Tensor,
    Text,
    TopK,
)
from mercato_server.contract.batch import BatchResult
from mercato_server.contract.fields import shared_row
from mercato_server.contract.plugin import OfferedModel, PluginInfo
from mercato_server.errors import InvalidRequest, LoadFailed, PluginFault, ProviderUnavailable
from mercato_server.runtime import providers
from mercato_server.runtime.worker import Worker
from mercato_server.serving.batch import join
from mercato_server.serving.request import Request

SECRET = "4242424242"


def y(result: BatchResult) -> list[float]:
    found: list[float] = result.outputs["y"][:, 0].tolist()
    return found


def test_the_pair_runs_around_the_graph(tmp_path: Path) -> None:
    class Shifted(Model):
        def preprocess(self, batch: Batch) -> Any:
            batch.state = "left by preprocess"
            return {"x": batch.inputs["x"] + 1}

        def postprocess(self, outputs: Any, batch: Batch) -> Any:
            assert batch.state == "left by preprocess"
            return {"y": outputs["y"] * 10}

    result = loaded(tmp_path, Shifted).run(joined(1, 2))
    assert y(result) == [40, 60]
    assert (result.provider, dict(result.rejected), result.padding) == ("cpu", {}, 0.0)
    assert min(result.pre_ns, result.compute_ns, result.post_ns) >= 0 and result.compute_ns > 0


def test_predict_takes_the_place_of_the_pair(tmp_path: Path) -> None:
    class Twice(Model):
        def predict(self, batch: Batch, graphs: Graphs) -> Any:
            return graphs.run({"x": graphs.run({"x": batch.inputs["x"]})["y"]})

    assert y(loaded(tmp_path, Twice).run(joined(1, 2))) == [4, 8]


def test_a_plugin_sees_the_time_that_remains(tmp_path: Path) -> None:
    seen: list[float | None] = []

    def answer(batch: Batch, outputs: Any) -> Any:
        seen.append(batch.remaining)
        return outputs

    run = loaded(tmp_path, answering(answer)).run
    run(joined(1))
    run(replace(joined(1), deadline=time.monotonic() + 100))

    assert seen[0] is None
    assert seen[1] is not None and 90 < seen[1] <= 100


def odd(batch: Batch) -> list[int]:
    return [row for row, value in enumerate(batch.inputs["x"][:, 0]) if value % 2]


def test_rows_without_an_answer_hold_empty_texts(tmp_path: Path) -> None:
    """A message holds texts or bytes, not both, nor numbers among them."""

    def answer(batch: Batch, outputs: Any) -> dict[str, Any]:
        if rows := odd(batch):
            raise InvalidInput("x", "must be even", rows=rows)
        return kinds(batch, color=[0] * batch.rows, name=["a"] * batch.rows)

    result = loaded(tmp_path, answering(answer), KINDS).run(joined(3, 2))
    assert result.outputs["name"].tolist() == ["", "a"]
    assert result.outputs["tags"].tolist() == [["", ""], ["new", ""]]
    assert result.outputs["top"].tolist() == [[0, 0, 0]] * 2


def test_invalid_input_with_rows_fails_only_those(tmp_path: Path) -> None:
    class Even(Model):
        def preprocess(self, batch: Batch) -> Any:
            if rows := odd(batch):
                raise InvalidInput("x", "must be even", rows=rows[:1])
            return batch.inputs

    result = loaded(tmp_path, Even).run(joined(2, 3, 4, 5, 6))
    assert result.rejected == {1: ("x", "must be even"), 3: ("x", "must be even")}
    assert [y(result)[row] for row in (0, 2, 4)] == [4, 8, 12]
    assert len(result.outputs["y"]) == 5


def test_facts_about_rows_keep_their_places_when_others_were_refused(tmp_path: Path) -> None:
    class Picky(Model):
        def preprocess(self, batch: Batch) -> Any:
            if 0 in batch.inputs["x"]:
                raise InvalidInput("x", "zero", rows=[0])
            batch.reject(1, "x", "second")
            batch.truncate(2, "x")
            assert batch.lengths["x"].tolist() == [1, 2, 3]
            assert batch.present["x"].tolist() == [True, False, True]
            assert batch.parameters == {"k": 5, "each": batch.parameters["each"]}
            assert batch.parameters["each"].tolist() == [11, 12, 13]
            return batch.inputs

    batch = replace(
        joined(0, 1, 2, 3),
        parameters={"k": 5, "each": np.array([10, 11, 12, 13])},
        lengths={"x": np.array([0, 1, 2, 3])},
        present={"x": np.array([True, True, False, True])},
    )
    result = loaded(tmp_path, Picky).run(batch)
    assert result.rejected == {0: ("x", "zero"), 2: ("x", "second")}
    assert result.truncated == {"x": frozenset({3})}


def test_invalid_input_without_rows_is_raised_so_that_each_request_is_tried_alone(tmp_path: Path) -> None:
    class Never(Model):
        def preprocess(self, batch: Batch) -> Any:
            raise InvalidInput("x", "never right")

    with pytest.raises(InvalidRequest) as caught:
        loaded(tmp_path, Never).run(joined(1, 2))
    assert [(v.field, v.description) for v in caught.value.violations] == [("inputs.x", "never right")]


@pytest.mark.parametrize("rows", [[], [-1], [7]])
def test_invalid_input_about_no_row_of_the_batch_is_the_plugins_fault(tmp_path: Path, rows: list[int]) -> None:
    class Lost(Model):
        def preprocess(self, batch: Batch) -> Any:
            raise InvalidInput("x", "somewhere", rows=rows)

    with pytest.raises(PluginFault):
        loaded(tmp_path, Lost).run(joined(1, 2))


def test_a_row_may_be_rejected_after_the_graph(tmp_path: Path) -> None:
    def judge(batch: Batch, outputs: Any) -> Any:
        batch.reject(1, "x", "too dear")
        batch.reject(1, "x", "said twice")
        return outputs

    result = loaded(tmp_path, answering(judge)).run(joined(1, 2))
    assert result.rejected == {1: ("x", "too dear")}
    assert y(result) == [2, 4]


def raising(error: BaseException) -> Callable[[Batch, Any], Any]:
    def answer(batch: Batch, outputs: Any) -> Any:
        raise error

    return answer


@pytest.mark.parametrize("row", [-1, 2])
def test_rejecting_a_row_that_is_not_there_is_the_plugins_fault(tmp_path: Path, row: int) -> None:
    def judge(batch: Batch, outputs: Any) -> Any:
        batch.reject(row, "x", "whose?")
        return outputs

    with pytest.raises(PluginFault):
        loaded(tmp_path, answering(judge)).run(joined(1, 2))


def test_reasons_of_other_types_become_texts(tmp_path: Path) -> None:
    def judge(batch: Batch, outputs: Any) -> Any:
        why: Any = ValueError("too dear")
        batch.reject(0, "x", why)
        return outputs

    class Odd(Model):
        def preprocess(self, batch: Batch) -> Any:
            why: Any = 3
            raise InvalidInput("x", why, rows=[0])

    for model, why in ((answering(judge), "too dear"), (Odd, "3")):
        folder = tmp_path / why
        folder.mkdir()
        assert loaded(folder, model).run(joined(1)).rejected == {0: ("x", why)}


FAULTS: dict[str, tuple[Callable[[Batch, Any], Any], str]] = {
    "SystemExit": (raising(SystemExit(SECRET)), ""),
    "KeyboardInterrupt": (raising(KeyboardInterrupt(SECRET)), ""),
    "a long message": (raising(ValueError(SECRET * 100_000)), ""),
    "None": (lambda batch, outputs: None, ": the plugin returned NoneType, expected a mapping of outputs"),
    "a list": (lambda batch, outputs: [SECRET], ": the plugin returned list, expected a mapping of outputs"),
    "too few rows": (lambda batch, outputs: {"y": outputs["y"][:1]}, ": output 'y' has 1 rows, the batch has 2"),
    "too many rows": (
        lambda batch, outputs: {"y": np.repeat(outputs["y"], 2, 0)},
        ": output 'y' has 4 rows, the batch has 2",
    ),
    "a scalar": (lambda batch, outputs: {"y": 1.0}, ": output 'y' has a scalar, the batch has 2"),
    "no such value": (lambda batch, outputs: {"y": None}, ": output 'y' has a scalar, the batch has 2"),
    "another dtype": (
        lambda batch, outputs: {"y": outputs["y"].astype("float64")},
        ": output 'y' is float64, the signature says float32",
    ),
    "a swapped byte order": (
        lambda batch, outputs: {"y": outputs["y"].astype(">f4")},
        ": output 'y' is >f4, the signature says float32",
    ),
    "another width": (
        lambda batch, outputs: {"y": outputs["y"][:, :1]},
        ": output 'y' has rows of shape [1], the signature says [2]",
    ),
    "another rank": (
        lambda batch, outputs: {"y": outputs["y"][:, 0]},
        ": output 'y' has rows of shape [], the signature says [2]",
    ),
    "no output": (lambda batch, outputs: {SECRET: outputs["y"]}, ": the plugin left out outputs ['y']"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_plugins_fault_tells_no_payload_path_or_traceback(tmp_path: Path, case: str) -> None:
    answer, detail = FAULTS[case]
    made = loaded(tmp_path, answering(answer))
    with pytest.raises(PluginFault) as caught:
        made.run(joined(1, 2))

    expected = f"model 'shop.double' failed{detail} (id {caught.value.id})"
    assert str(caught.value) == expected
    assert re.fullmatch("[0-9a-f]{12}", caught.value.id)


def test_a_graph_that_gets_the_wrong_inputs_is_the_plugins_fault(tmp_path: Path) -> None:
    class Wrong(Model):
        def preprocess(self, batch: Batch) -> Any:
            return {"z": batch.inputs["x"]}

    with pytest.raises(PluginFault, match=r"^model 'shop.double' failed \(id [0-9a-f]{12}\)$"):
        loaded(tmp_path, Wrong).run(joined(1))


def test_after_a_fault_the_next_batch_is_fine(tmp_path: Path) -> None:
    def moody(batch: Batch, outputs: Any) -> Any:
        return None if 13 in batch.inputs["x"] else outputs

    made = loaded(tmp_path, answering(moody))
    with pytest.raises(PluginFault):
        made.run(joined(13))
    assert y(made.run(joined(1))) == [2]


GRAPH = GraphSpec(inputs={"x": X}, outputs={"y": X})
KINDS = ModelSpec(
    name="shop.kinds",
    inputs={"x": X},
    outputs={
        "color": Label(("red", "green")),
        "name": Text(),
        "top": Tensor("float32", ("batch", Axis("k", max=3))),
        "tags": Text(axes=("batch", 2)),
    },
    graph=GRAPH,
)


def kinds(batch: Batch, **changed: Any) -> dict[str, Any]:
    right = {"color": [0, 1], "name": ["a", "b"], "top": np.zeros((batch.rows, 3), np.float32)}
    right["tags"] = [["new", ""]] * batch.rows
    return {**right, **changed}


def test_labels_text_and_named_axes_may_be_plain_values(tmp_path: Path) -> None:
    result = loaded(tmp_path, answering(lambda batch, outputs: kinds(batch)), KINDS).run(joined(1, 2))

    assert result.outputs["color"].tolist() == [0, 1]
    assert result.outputs["name"].tolist() == ["a", "b"]
    assert result.outputs["tags"].tolist() == [["new", ""], ["new", ""]]
    assert result.outputs["name"].dtype == result.outputs["tags"].dtype == object


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"color": [0, 2]}, "output 'color' must be label indices from 0 to 1"),
        ({"color": [0, -1]}, "output 'color' must be label indices from 0 to 1"),
        ({"color": ["red", "green"]}, "output 'color' must be label indices from 0 to 1"),
        ({"color": [0.0, 1.0]}, "output 'color' must be label indices from 0 to 1"),
        ({"name": ["only one"]}, "output 'name' has 1 rows, the batch has 2"),
        ({"name": [["a"], ["b"]]}, "output 'name' has rows of shape [1], the signature says []"),
        ({"tags": ["new", "old"]}, "output 'tags' has rows of shape [], the signature says [2]"),
        ({"tags": [["new"], ["old"]]}, "output 'tags' has rows of shape [1], the signature says [2]"),
        ({"tags": [["new", ""], ["old"]]}, "output 'tags' has rows of shape [], the signature says [2]"),
        ({"tags": [["new", ""]]}, "output 'tags' has 1 rows, the batch has 2"),
        (
            {"top": np.zeros((2, 4), np.float32)},
            "output 'top' has rows of shape [4], the signature says [k (at most 3)]",
        ),
    ],
)
def test_answers_that_do_not_fit_their_field_are_the_plugins_fault(
    tmp_path: Path, changed: dict[str, Any], detail: str
) -> None:
    made = loaded(tmp_path, answering(lambda batch, outputs: kinds(batch, **changed)), KINDS)
    with pytest.raises(PluginFault) as caught:
        made.run(joined(1, 2))

    assert str(caught.value) == f"model 'shop.kinds' failed: {detail} (id {caught.value.id})"


@dataclass(frozen=True)
class Taste:
    sweet: bool


def test_load_gets_files_version_and_settings(tmp_path: Path) -> None:
    class Loading(Model):
        def load(self, ctx: Any) -> None:
            self.seen = (ctx.files, ctx.version, ctx.settings)

    made = worker(tmp_path, Loading, replace(DOUBLE, version=3), settings=Taste(True))
    made.load()
    assert made._model.seen == (tmp_path / "files", 3, Taste(True))  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ValueError("no index"), SystemExit("no index"), FileNotFoundError(2, "x", "/a/b/c")])
def test_a_failing_load_is_told_without_a_path(tmp_path: Path, error: BaseException) -> None:
    class Failing(Model):
        def load(self, ctx: Any) -> None:
            raise error

    with pytest.raises(LoadFailed, match=f"load of shop.double raised {type(error).__name__}") as caught:
        worker(tmp_path, Failing).load()
    assert "/a/b" not in str(caught.value)


def test_a_missing_or_broken_graph_is_a_failed_load(tmp_path: Path) -> None:
    made = worker(tmp_path)
    (tmp_path / "graphs" / "model.onnx").write_bytes(b"\0" * 100)
    with pytest.raises(LoadFailed, match="graph 'model' cannot be loaded on cpu"):
        made.load()


@pytest.mark.skipif(not providers._missing("cuda"), reason="cuda comes up on this machine")
def test_a_session_on_another_provider_than_asked_for_is_refused(tmp_path: Path) -> None:
    offered = OfferedModel(PluginInfo("mercato-made", "1.0", "made", "made"), Model(), DOUBLE)
    made = Worker(offered, artifact(tmp_path, DOUBLE, {"model": double()}), provider="cuda", threads=1)
    with pytest.raises((ProviderUnavailable, LoadFailed)) as caught:
        made.load()
    assert str(tmp_path) not in str(caught.value)


def test_warm_up_runs_the_examples_and_one_full_batch(tmp_path: Path) -> None:
    rows: list[int] = []

    def answer(batch: Batch, outputs: Any) -> Any:
        rows.append(batch.rows)
        return outputs

    made = worker(tmp_path, answering(answer), examples=[{"x": [[1, 2]]}, {"x": [[1, 2], [3, 4], [5, 6]]}])
    made.load()
    made.warm()

    assert rows == [1, 3, 8]


def test_a_fault_in_warm_up_is_a_failed_load(tmp_path: Path) -> None:
    made = worker(tmp_path, answering(lambda batch, outputs: None), examples=[{"x": [[1, 2]]}])
    made.load()
    with pytest.raises(
        LoadFailed, match="warm-up of shop.double: model 'shop.double' failed: the plugin returned None"
    ):
        made.warm()


def test_ragged_examples_warm_up_with_their_lengths(tmp_path: Path) -> None:
    ragged = Tensor("float32", ("batch", Axis("length", max=4)), ragged=True)
    spec = ModelSpec(
        name="shop.ragged",
        inputs={"x": ragged, "hint": replace(ragged, optional=True)},
        outputs={"y": X},
        graph=GRAPH,
        batch=BatchPolicy(max_rows=4),
    )
    seen: list[dict[str, list[int]]] = []

    class Counting(Model):
        def preprocess(self, batch: Batch) -> Any:
            seen.append({name: lengths.tolist() for name, lengths in batch.lengths.items()})
            return {"x": np.zeros((batch.rows, 2), np.float32)}

    made = worker(tmp_path, Counting, spec, examples=[{"x": [[1.0], [1.0, 2.0, 3.0]]}])
    made.load()
    made.warm()
    assert seen == [{"x": [1, 3], "hint": [0, 0]}, {"x": [1, 3, 1, 3], "hint": [0, 0, 0, 0]}]


def test_ragged_rows_of_joined_requests_hold_their_pad_behind_the_end(tmp_path: Path) -> None:
    ragged = Tensor("float32", ("batch", Axis("length", max=4)), ragged=True, pad=9)
    spec = ModelSpec(name="shop.ragged", inputs={"x": ragged}, outputs={"y": X}, graph=GRAPH)
    narrow, wide = np.array([[1, 9]], np.float32), np.array([[2, 2, 2, 2], [3, 9, 9, 9]], np.float32)
    requests = [
        Request({"x": narrow}, 1, 1.0, lengths={"x": np.array([1])}),
        Request({"x": wide}, 2, 1.0, lengths={"x": np.array([4, 1])}),
    ]

    class Seeing(Model):
        def preprocess(self, batch: Batch) -> Any:
            assert batch.inputs["x"].tolist() == [[1, 9, 9, 9], [2, 2, 2, 2], [3, 9, 9, 9]]
            assert not batch.inputs["x"].flags.writeable
            return {"x": batch.inputs["x"][:, :2]}

    assert loaded(tmp_path, Seeing, spec).run(join(requests)).outputs["y"].tolist() == [[2, 18], [4, 4], [6, 18]]


def test_requests_with_shared_values_of_different_length_share_a_batch(tmp_path: Path) -> None:
    history = Tensor("int64", (Axis("history", max=4),), shared=True, ragged=True, pad=-1)
    spec = ModelSpec(name="shop.rank", inputs={"x": X, "history": history}, outputs={"y": X}, graph=GRAPH)
    sent = {2: [5, 6, 7], 1: [8], 3: []}
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    requests, start = [], 0
    for rows, value in sent.items():
        row = shared_row(history, np.array(value, np.int64))
        inputs = {"x": x[start : start + rows], "history": np.broadcast_to(row, (rows, len(row)))}
        requests.append(Request(inputs, rows, 1.0, lengths={"history": np.full(rows, len(value))}))
        start += rows

    class Seeing(Model):
        def preprocess(self, batch: Batch) -> Any:
            assert batch.inputs["history"].tolist() == [[5, 6, 7]] * 2 + [[8, -1, -1]] + [[-1, -1, -1]] * 3
            assert batch.lengths["history"].tolist() == [3, 3, 1, 0, 0, 0]
            return {"x": batch.inputs["x"]}

    assert loaded(tmp_path, Seeing, spec).run(join(requests)).outputs["y"].tolist() == (2 * x).tolist()


def test_shared_ragged_examples_warm_up_with_their_length(tmp_path: Path) -> None:
    history = Tensor("int64", (Axis("history", max=4),), shared=True, ragged=True, pad=-1)
    inputs = {"x": X, "history": history, "basket": replace(history, optional=True)}
    spec = ModelSpec(
        name="shop.rank", inputs=inputs, outputs={"y": X, "score": Tensor("float32")}, graph=GRAPH,
        parameters={"k": Int(2, low=1), "n": Int(3)}, top_k=TopK("score", "k", "place"), batch=BatchPolicy(max_rows=4),
    )  # fmt: skip
    seen: list[Batch] = []

    class Seeing(Model):
        def preprocess(self, batch: Batch) -> Any:
            seen.append(batch)
            return {"x": batch.inputs["x"]}

        def postprocess(self, outputs: Any, batch: Batch) -> Any:
            return {**outputs, "score": np.zeros(batch.rows, np.float32)}

    made = worker(
        tmp_path, Seeing, spec, examples=[{"x": [[1.0, 2.0]] * 3, "history": given} for given in ([7, 8], [])]
    )
    made.load()
    made.warm()

    assert [batch.inputs["history"].tolist() for batch in seen] == [[[7, 8]] * 3, [[-1]] * 3, [[7, 8]] * 4]
    lengths = [{name: found.tolist() for name, found in batch.lengths.items()} for batch in seen]
    assert lengths == [{"history": [n] * rows, "basket": [0] * rows} for n, rows in ((2, 3), (0, 3), (2, 4))]
    assert [batch.parameters for batch in seen] == [{"n": 3}] * 3


def test_close_lets_go_of_the_sessions(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    made.close()
    with pytest.raises(PluginFault):
        made.run(joined(1))


def test_every_array_of_a_batch_is_read_only(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Looking(Model):
        def preprocess(self, batch: Batch) -> Any:
            groups = (batch.inputs, batch.lengths, batch.present, batch.parameters)
            seen.extend(array for group in groups for array in group.values())
            return {"x": batch.inputs["x"]}

    made = worker(tmp_path, Looking, examples=[{"x": [[1, 2]]}])
    made.load()
    made.warm()
    made.run(
        replace(
            joined(1),
            inputs={**joined(1).inputs, "text": np.array(["a"], object)},
            parameters={"k": np.zeros(1)},
            lengths={"x": np.ones(1, np.int64)},
            present={"text": np.ones(1, np.bool_)},
        )
    )
    assert len(seen) == 2 + 5
    assert not any(array.flags.writeable for array in seen)


def test_a_plugin_that_writes_into_its_inputs_is_at_fault(tmp_path: Path) -> None:
    def scribble(batch: Batch, outputs: Any) -> Any:
        batch.inputs["x"][:] = 0

    with pytest.raises(PluginFault):
        loaded(tmp_path, answering(scribble)).run(joined(1))


def test_a_model_that_rejects_its_examples_is_a_failed_load(tmp_path: Path) -> None:
    class Picky(Model):
        def preprocess(self, batch: Batch) -> Any:
            for row in range(batch.rows):
                if batch.inputs["x"][row, 0] > 2:
                    batch.reject(row, "x", "too large")
            return batch.inputs

    fine, failing = tmp_path / "fine", tmp_path / "failing"
    for folder in (fine, failing):
        folder.mkdir()
    some = worker(fine, Picky, examples=[{"x": [[1, 1], [3, 3]]}])
    some.load()
    some.warm()
    none = worker(failing, Picky, examples=[{"x": [[3, 3], [4, 4]]}])
    none.load()
    with pytest.raises(LoadFailed, match="warm-up of shop.double: all rows of an example were rejected: x: too large"):
        none.warm()


def test_workers_of_one_model_share_nothing_that_load_sets(tmp_path: Path) -> None:
    class Loading(Model):
        def load(self, ctx: Any) -> None:
            self.version = ctx.version

        def postprocess(self, outputs: Any, batch: Batch) -> Any:
            return {"y": np.full_like(outputs["y"], self.version)}

    offered = OfferedModel(PluginInfo("mercato-made", "1.0", "made", "made"), Loading(), DOUBLE)
    workers = []
    for version in (1, 2):
        folder = tmp_path / str(version)
        folder.mkdir()
        made = artifact(folder, replace(DOUBLE, version=version), {"model": double()})
        workers.append(Worker(offered, made, provider="cpu", threads=1))
        workers[-1].load()
    assert [y(made.run(joined(5))) for made in workers] == [[1], [2]]
    assert not hasattr(offered.model, "version")


def test_the_providers_are_those_of_the_sessions(tmp_path: Path) -> None:
    made = worker(tmp_path)
    assert not made.providers
    made.load()
    assert made.providers == ("cpu",)
