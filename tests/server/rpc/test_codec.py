"""The codec: what was encoded comes back equal, and whatever else arrives is InvalidRequest."""

import base64
import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mercato.v1 import tensor_pb2
from mercato_plugin import (
    Axis,
    BatchPolicy,
    Field,
    GraphSpec,
    Image,
    Int,
    Label,
    ModelSpec,
    SpecError,
    Tensor,
    Text,
    TopK,
)
from mercato_server.contract.batch import Array
from mercato_server.contract.fields import numpy_dtype
from mercato_server.errors import InvalidRequest
from mercato_server.rpc.codec import NAMES, WIRE, Decoded, SignatureCodec
from mercato_server.rpc.defaults import fill_absent

steady = settings(derandomize=True, database=None, deadline=None, max_examples=60)

NUMERIC = [name for name in NAMES if name not in ("string", "bytes")]
COLOURS = ("red", "蓝", "green")
PNG = base64.b64decode(  # one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


LONG = Axis("length", max=1_000_000)
POLICY = BatchPolicy(max_rows=4, request_rows=8)


def codec(**fields: Field) -> SignatureCodec:
    """An echo: every required input of its own batch axis is an output too."""
    outputs = {n: f for n, f in fields.items() if not f.shared and not f.optional}
    outputs = outputs or {"y": Tensor("float32", ("batch", 1))}
    return SignatureCodec(ModelSpec(name="test.echo", inputs=fields, outputs=outputs, batch=POLICY))


def decoded(codec: SignatureCodec, **values: Array) -> Decoded:
    """What comes out of the values once encoded."""
    named = [tensor_pb2.NamedTensor(name=n, tensor=codec.inputs[n].encode(v)) for n, v in values.items()]
    sent = [tensor_pb2.NamedTensor.FromString(item.SerializeToString()) for item in named]
    return codec.decode(sent)


def numbers(name: str, shape: Any) -> st.SearchStrategy[Array]:
    """Arrays of a dtype by its name in the signature; bfloat16 is made of float32."""
    dtype = np.dtype(np.float32) if name == "bfloat16" else numpy_dtype(name)
    if name == "bfloat16":
        elements: st.SearchStrategy[Any] = st.floats(-(2.0**126), 2.0**126, width=32)
    elif dtype.kind == "f":
        elements = arrays.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    else:
        elements = arrays.from_dtype(dtype)
    return arrays.arrays(dtype, shape, elements=elements).map(lambda array: array.astype(numpy_dtype(name)))


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
SHAPES = st.tuples(st.integers(1, 8), st.just(3), st.integers(1, 5))


@pytest.mark.parametrize("dtype", NUMERIC)
@steady
@given(data=st.data())
def test_numbers_come_back_bit_for_bit(dtype: str, data: st.DataObject) -> None:
    array = data.draw(numbers(dtype, SHAPES))
    got = decoded(codec(x=Tensor(dtype, ("batch", 3, Axis("width", max=5)))), x=array)
    assert got.arrays["x"].dtype == numpy_dtype(dtype)
    assert got.arrays["x"].shape == array.shape
    assert got.arrays["x"].tobytes() == array.tobytes()
    assert got.rows == len(array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_unless_declared(dtype: str, value: float) -> None:
    array = np.array([[1.0], [value]]).astype(numpy_dtype(dtype))
    with pytest.raises(InvalidRequest, match="inputs.x: got NaN or infinity"):
        decoded(codec(x=Tensor(dtype, ("batch", 1))), x=array)
    assert len(decoded(codec(x=Tensor(dtype, ("batch", 1), finite=False)), x=array).arrays["x"]) == 2


@pytest.mark.parametrize("dtype", [name for name in NUMERIC if name != "bool"])
@pytest.mark.parametrize(("value", "fits"), [(1, True), (5, True), (0, False), (6, False)])
def test_bounds_are_inclusive(dtype: str, value: int, fits: bool) -> None:
    bounded = codec(x=Tensor(dtype, ("batch",), low=1, high=5))
    array = np.array([3, value]).astype(numpy_dtype(dtype))
    if fits:
        assert decoded(bounded, x=array).rows == 2
    else:
        with pytest.raises(InvalidRequest, match="got values outside 1 to 5"):
            decoded(bounded, x=array)


def test_bounds_refuse_nan_too() -> None:
    with pytest.raises(InvalidRequest, match="outside"):
        decoded(codec(x=Tensor("float32", ("batch",), finite=False, low=0)), x=np.array([np.nan], np.float32))


def test_a_bool_is_zero_or_one() -> None:
    tensor = tensor_pb2.Tensor(dtype=WIRE["bool"], shape=[2], data=b"\1\2")
    with pytest.raises(InvalidRequest, match="bytes other than 0 and 1"):
        codec(x=Tensor("bool", ("batch",))).decode([tensor_pb2.NamedTensor(name="x", tensor=tensor)])


def test_views_are_read_only() -> None:
    array = decoded(codec(x=Tensor("float32", ("batch",))), x=np.ones(3, np.float32)).arrays["x"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


@steady
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_texts_come_back(values: list[str]) -> None:
    got = decoded(codec(text=Text(max_bytes=80)), text=np.array(values, object))
    assert got.arrays["text"].tolist() == values
    assert not got.truncations


def test_several_texts_of_a_row_are_items_in_their_order() -> None:
    made = ModelSpec(
        name="test.tags", inputs={"x": Tensor("float32")}, outputs={"tags": Text(axes=("batch", 2))},
        graph=GraphSpec(inputs={"x": Tensor("float32")}, outputs={"x": Tensor("float32")}),
    )  # fmt: skip
    (named,) = SignatureCodec(made).encode({"tags": np.array([["好", ""], ["", "b"], ["", ""]], object)}, ())
    assert (list(named.tensor.shape), list(named.tensor.items)) == ([3, 2], ["好".encode(), b"", b"", b"b", b"", b""])


@steady
@given(TEXTS, st.integers(1, 30))
def test_cut_texts_are_prefixes_of_whole_characters(value: str, limit: int) -> None:
    got = decoded(codec(text=Text(max_bytes=limit, overflow="truncate")), text=np.array([value, ""], object))
    cut = got.arrays["text"][0]
    assert value.startswith(cut) and len(cut.encode()) <= limit
    assert got.truncations == ({"text": 1} if cut != value else {})


@steady
@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.integers(0, 2)))
def test_labels_come_back_as_indices(values: Array) -> None:
    got = decoded(codec(colour=Label(COLOURS, ("batch", 2))), colour=values)
    np.testing.assert_array_equal(got.arrays["colour"], values)


def test_labels_travel_as_names() -> None:
    field = codec(colour=Label(COLOURS)).inputs["colour"]
    assert list(field.encode(np.array([1, 0])).items) == ["蓝".encode(), b"red"]


def test_an_unknown_label_is_refused_without_repeating_it() -> None:
    tensor = tensor_pb2.Tensor(dtype=WIRE["string"], shape=[2], items=[b"red", b"secret"])
    with pytest.raises(InvalidRequest, match="got 1 labels that are none of the 3 known ones") as caught:
        codec(colour=Label(COLOURS)).decode([tensor_pb2.NamedTensor(name="colour", tensor=tensor)])
    assert "secret" not in str(caught.value)


def test_images_come_back_and_other_files_are_refused() -> None:
    image = codec(photo=Image(formats=("png",), max_bytes=len(PNG)))
    assert decoded(image, photo=np.array([PNG], object)).arrays["photo"].tolist() == [PNG]
    for wrong in (b"", b"GIF89a", b"\xff\xd8\xff", PNG[:8], PNG + b"."):
        with pytest.raises(InvalidRequest, match="row 0"):
            decoded(image, photo=np.array([wrong], object))


@pytest.mark.parametrize("inner", [(), (2,)])
@steady
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any))
def test_ragged_rows_are_padded_and_their_lengths_kept(inner: tuple[int, ...], lengths: list[int]) -> None:
    rows = [np.full((length, *inner), number + 1, np.int32) for number, length in enumerate(lengths)]
    shape = (len(rows), max(lengths), *inner)
    data = b"".join(row.tobytes() for row in rows)
    tensor = tensor_pb2.Tensor(dtype=WIRE["int32"], shape=shape, data=data, row_lengths=lengths)
    ragged = codec(x=Tensor("int32", ("batch", Axis("length", max=6), *inner), ragged=True, pad=-1))
    got = ragged.decode([tensor_pb2.NamedTensor(name="x", tensor=tensor)])
    assert got.lengths["x"].tolist() == lengths
    for padded, row in zip(got.arrays["x"], rows, strict=True):
        np.testing.assert_array_equal(padded[: len(row)], row)
        assert (padded[len(row) :] == -1).all()


@pytest.mark.parametrize("lengths", [[3], [3, 3, 3], [2, 2], [4, 3], [-1, 3], [3, 2**62], [3, -(2**63)]])
def test_row_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    ragged = codec(x=Tensor("int32", ("batch", Axis("length", max=6)), ragged=True))
    tensor = tensor_pb2.Tensor(dtype=WIRE["int32"], shape=[2, 3], data=b"\0" * 20, row_lengths=lengths)
    with pytest.raises(InvalidRequest, match="row_lengths, expected 2"):
        ragged.decode([tensor_pb2.NamedTensor(name="x", tensor=tensor)])


def test_shared_inputs_have_no_batch_axis_and_reach_every_row() -> None:
    mixed = codec(user=Tensor("float32", (2,), shared=True), word=Text(shared=True), x=Tensor("int64", ("batch",)))
    word = np.array("hi", object)
    got = decoded(mixed, user=np.array([1, 2], np.float32), word=word, x=np.arange(3))
    inputs, _ = fill_absent(mixed.spec, got)
    assert got.rows == 3
    assert inputs["user"].tolist() == [[1, 2]] * 3
    assert inputs["word"].tolist() == ["hi"] * 3


HISTORY = Tensor("int64", (Axis("history", max=5),), shared=True, ragged=True, pad=-1, low=0, high=9)


@pytest.mark.parametrize("history", [[], [3], [1, 2, 3, 4, 5]])
def test_a_shared_ragged_input_reaches_every_row_with_its_length(history: list[int]) -> None:
    ranking = codec(x=Tensor("int64", ("batch",)), history=HISTORY)
    got = decoded(ranking, x=np.arange(3), history=np.array(history, np.int64))
    inputs, _ = fill_absent(ranking.spec, got)
    assert inputs["history"].tolist() == [history or [-1]] * 3
    assert got.lengths["history"].tolist() == [len(history)] * 3
    assert got.lengths["history"].dtype == np.int64


def test_an_absent_shared_ragged_input_has_no_length() -> None:
    ranking = codec(x=Tensor("int64", ("batch",)), history=replace(HISTORY, optional=True))
    got = decoded(ranking, x=np.arange(2))
    inputs, present = fill_absent(ranking.spec, got)
    assert inputs["history"].shape == (2, 1)
    assert got.lengths["history"].tolist() == [0, 0]
    assert present["history"].tolist() == [False, False]


def test_a_shared_ragged_input_keeps_its_inner_axes() -> None:
    clicks = Tensor("float32", (Axis("clicks", max=4), 2), shared=True, ragged=True, pad=7)
    ranking = codec(x=Tensor("int64", ("batch",)), clicks=clicks)
    got = decoded(ranking, x=np.arange(2), clicks=np.zeros((0, 2), np.float32))
    assert fill_absent(ranking.spec, got)[0]["clicks"].tolist() == [[[7, 7]]] * 2


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({"shape": [6], "data": bytes(48)}, r"got shape \[6\], expected \[history \(0 to 5\)\]"),
        ({"shape": [1, 2], "data": bytes(16)}, r"got rank 2, expected 1: \[history \(0 to 5\)\]"),
        ({"shape": [2], "data": bytes(24)}, "got 24 bytes and 0 items, expected 16 bytes and no items"),
        ({"shape": [2], "data": bytes(16), "row_lengths": [2]}, "row_lengths are for inputs of ragged rows only"),
        ({"shape": [1], "data": b"\x0a" + bytes(7)}, "got values outside 0 to 9"),
    ],
)
def test_a_shared_ragged_input_is_checked_as_one_value(sent: dict[str, Any], why: str) -> None:
    tensor = tensor_pb2.Tensor(dtype=WIRE["int64"], **sent)
    with pytest.raises(InvalidRequest, match=why):
        codec(history=HISTORY).decode([tensor_pb2.NamedTensor(name="history", tensor=tensor)])


@pytest.mark.parametrize("count", [5, 8, 9])
def test_a_request_may_have_more_rows_than_a_batch(count: int) -> None:
    rows = codec(x=Tensor("int8", ("batch",)), text=Text(), seq=Tensor("int8", ("batch", LONG), ragged=True))
    values = {
        "x": np.ones(count, np.int8),
        "text": np.array(["a"] * count, object),
        "seq": np.ones((count, 2), np.int8),
    }
    if count <= POLICY.rows_per_request:
        assert decoded(rows, **values).rows == count
        return
    with pytest.raises(InvalidRequest) as caught:
        decoded(rows, **values)
    assert ["batch (1 to 8)" in fault.description for fault in caught.value.violations] == [True] * 3


RANKING = ModelSpec(
    name="shop.rank",
    inputs={"item": Tensor("int64"), "history": HISTORY},
    outputs={"score": Tensor("float32"), "price": Tensor("float64", ("batch", 2))},
    parameters={"k": Int(2, low=1, high=5)},
    top_k=TopK(by="score", k="k", index="place"),
    batch=POLICY,
)


def test_the_places_of_ranked_rows_are_an_output() -> None:
    ranking = SignatureCodec(RANKING)
    outputs: dict[str, Array] = {"score": np.ones(2, np.float32), "price": np.ones((2, 2)), "place": np.array([7, 0])}
    assert [named.name for named in ranking.encode(outputs, ())] == ["score", "price", "place"]
    [place] = ranking.encode(outputs, ["place"])
    assert (place.tensor.dtype, np.frombuffer(place.tensor.data, np.int64).tolist()) == (WIRE["int64"], [7, 0])
    ranking.check_wanted(["place", "score"])
    with pytest.raises(InvalidRequest, match="no output 'rank'; there are score, price, place"):
        ranking.check_wanted(["rank"])


def test_an_answer_of_ranked_rows_takes_no_more_than_they_do() -> None:
    """A row takes 4 bytes of score, 16 of price and 8 of place."""
    ranking = SignatureCodec(RANKING)
    free = SignatureCodec(replace(RANKING, parameters={"k": Int(2, low=1)}))
    plain = SignatureCodec(replace(RANKING, top_k=None))

    def rows(codec: SignatureCodec, row_bytes: int, *asked: int) -> float:
        whole, empty = codec.answer_bytes(*asked), codec.answer_bytes(1)
        assert whole is not None and empty is not None
        return (whole - empty) / row_bytes + 1

    assert [rows(ranking, 28, *asked) for asked in ((4,), (9,), (4, 2), (1, 2), (9, 2**63), (9, -1))] == [
        4,
        5,
        2,
        1,
        5,
        1,
    ]
    assert [rows(free, 28, *asked) for asked in ((4,), (9,), (9, 7))] == [4, 8, 7]
    assert [rows(plain, 20, *asked) for asked in ((4,), (9,))] == [4, 8]


def test_absent_optional_inputs_hold_their_default_and_are_told_apart() -> None:
    mixed = codec(
        x=Tensor("int64", ("batch",)),
        age=Tensor("float32", ("batch", 2), optional=True, default=7),
        note=Text(optional=True, default="none"),
        colour=Label(COLOURS, optional=True, default="green"),
    )
    inputs, present = fill_absent(mixed.spec, decoded(mixed, x=np.arange(2), note=np.array(["a", "b"], object)))
    assert inputs["age"].tolist() == [[7, 7]] * 2
    assert inputs["note"].tolist() == ["a", "b"]
    assert inputs["colour"].tolist() == [2, 2]
    assert {name: mask.tolist() for name, mask in present.items()} == {
        "age": [False, False], "note": [True, True], "colour": [False, False],
    }  # fmt: skip


def test_inputs_must_agree_on_rows_and_on_named_axes() -> None:
    width = Axis("width", max=5)
    pair = codec(a=Tensor("int8", ("batch", width)), b=Tensor("int8", ("batch", width)))
    with pytest.raises(InvalidRequest, match="axis 'batch' is 3, but 2 in another input"):
        decoded(pair, a=np.ones((2, 4), np.int8), b=np.ones((3, 4), np.int8))
    with pytest.raises(InvalidRequest, match="axis 'width' is 5, but 4 in another input"):
        decoded(pair, a=np.ones((2, 4), np.int8), b=np.ones((2, 5), np.int8))


def test_a_flood_of_faults_is_cut_short() -> None:
    """What a refusal holds does not grow with the number of faults in the request."""
    flood = [tensor_pb2.NamedTensor(name=f"n{number}") for number in range(10_000)]
    with pytest.raises(InvalidRequest) as caught:
        codec(x=Tensor("int8", ("batch",))).decode(flood)
    assert len(caught.value.violations) < 100


MIXED = codec(
    x=Tensor("float32", ("batch", Axis("width", max=3)), optional=True, low=-5),
    ids=Tensor("int64", ("batch", Axis("length", max=4)), ragged=True, optional=True),
    text=Text(max_bytes=4, optional=True),
    colour=Label(COLOURS, optional=True),
    photo=Image(formats=("png",), optional=True),
    history=replace(HISTORY, optional=True),
)
TENSORS = st.builds(
    tensor_pb2.Tensor,
    dtype=st.one_of(st.sampled_from([*WIRE.values()]), st.integers(0, 2**31 - 1)),
    shape=st.lists(st.one_of(st.integers(-1, 4), st.integers(-(2**63), 2**63 - 1)), max_size=4),
    data=st.one_of(st.integers(0, 12).map(lambda count: b"\0" * 4 * count), st.binary(max_size=32)),
    items=st.lists(st.sampled_from([b"", b"red", b"\xff", b"a\0", PNG, "界界".encode()]), max_size=4),
    row_lengths=st.lists(st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)), max_size=4),
)
NAMED = st.builds(
    tensor_pb2.NamedTensor, name=st.sampled_from([*MIXED.inputs, "other", "a" * 99, "\n"]), tensor=TENSORS
)


@settings(steady, max_examples=600)
@given(st.lists(NAMED, max_size=4))
def test_any_tensors_are_decoded_to_the_signature_or_refused(tensors: list[tensor_pb2.NamedTensor]) -> None:
    with contextlib.suppress(InvalidRequest):
        got = MIXED.decode(tensors)
        inputs, present = fill_absent(MIXED.spec, got)
        for array in (*inputs.values(), *got.lengths.values()):
            assert len(array) == got.rows <= 8
        assert inputs.keys() == present.keys() == MIXED.inputs.keys()


def ragged_request(longest: int, rows: int) -> list[tensor_pb2.NamedTensor]:
    """One row of `longest` int8 zeros, the others empty."""
    tensor = tensor_pb2.Tensor(
        dtype=WIRE["int8"], shape=[rows, longest], data=bytes(longest), row_lengths=[longest, *[0] * (rows - 1)]
    )
    return [tensor_pb2.NamedTensor(name="x", tensor=tensor)]


def test_a_small_message_cannot_ask_for_much_padding() -> None:
    ragged = Tensor("int8", ("batch", LONG), ragged=True)
    spec = ModelSpec(name="a.b", inputs={"x": ragged}, outputs={"y": ragged}, batch=BatchPolicy(max_rows=64))
    wide = SignatureCodec(spec)

    assert wide.decode(ragged_request(1_000_000, 16)).arrays["x"].nbytes == 16_000_000
    assert wide.decode(ragged_request(200_000, 64)).arrays["x"].nbytes == 12_800_000
    with pytest.raises(InvalidRequest, match="got 1000000 bytes that padding .* would make 64000000, expected at most"):
        wide.decode(ragged_request(1_000_000, 64))


def test_free_axes_are_those_that_joining_cannot_widen() -> None:
    inner = Axis("width", max=5)
    mixed = codec(
        x=Tensor("int8", ("batch", LONG, inner), ragged=True),
        flat=Tensor("int8", ("batch", LONG), ragged=True),
        plain=Tensor("int8", ("batch", inner)),
        user=Tensor("int8", (inner,), shared=True),
        history=HISTORY,
        clicks=Tensor("int8", (LONG, inner), shared=True, ragged=True),
        fixed=Tensor("int8", ("batch", 2)),
    )
    assert mixed.free_inputs == [("x", 2), ("plain", 1), ("user", 0), ("clicks", 1)]


def test_an_absent_label_with_axes_has_their_rank() -> None:
    mixed = codec(x=Tensor("int64", ("batch",)), top=Label(COLOURS, ("batch", 2), optional=True, default="green"))
    inputs, _ = fill_absent(mixed.spec, decoded(mixed, x=np.arange(3)))
    assert inputs["top"].tolist() == [[2, 2]] * 3
    assert inputs["top"].dtype == np.int64


@pytest.mark.parametrize("default", [[1, 2], [[1, 2, 3]], [], [[1], [2, 3]]])
def test_a_default_that_is_no_row_is_refused(default: Any) -> None:
    with pytest.raises(SpecError, match="default"):
        Tensor("float32", ("batch", 3), optional=True, default=default)


@pytest.mark.parametrize("default", [1, [1, 2, 3], np.array([1, 2, 3])])
def test_a_default_is_one_number_or_one_row(default: Any) -> None:
    mixed = codec(x=Tensor("int64", ("batch",)), y=Tensor("float32", ("batch", 3), optional=True, default=default))
    inputs, _ = fill_absent(mixed.spec, decoded(mixed, x=np.arange(2)))
    assert inputs["y"].shape == (2, 3)
