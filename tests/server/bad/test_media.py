"""Images and texts against the running server: refused with field and row, or answered; other rows are unharmed."""

import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tests.server.bad import media_images, media_texts
from tests.server.bad.media_images import DISTRIBUTION, MODEL, PNG, SOURCE
from tests.server.calls import PREDICT, Wire, request, tensor, texts
from tests.server.gate import install
from tests.server.running import Running, environment

from mercato.v1 import prediction_pb2, tensor_pb2
from mercato_server.rpc.images import BadImage, pixels, size_of

ROWS = [*media_images.ROWS, *media_texts.ROWS]
LEAKS = ("Traceback", "site-packages", ".py", "/tmp", "PIL")  # noqa: S108


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A server of a model that takes images."""
    folder = tmp_path_factory.mktemp("eye")
    path = install(folder / "site", DISTRIBUTION, SOURCE)
    env = environment(folder / "home", (DISTRIBUTION,), PYTHONPATH=path, EYE=str(folder))
    running = Running(folder / "store", folder / "work", env)
    try:
        running.ready()
        with grpc.insecure_channel(running.address) as channel:
            yield Wire(channel)
        running.terminate()
        assert running.ended() == 0
    finally:
        running.kill()


def photos(*items: bytes) -> prediction_pb2.PredictRequest:
    return request(MODEL, tensor("photo", tensor_pb2.DATA_TYPE_BYTES, [len(items)], items=items))


def sizes(eye: Wire, *items: bytes) -> list[tuple[int, int]]:
    answer = eye.prediction.Predict(photos(*items), timeout=20)
    found = np.frombuffer(answer.outputs[0].tensor.data, np.float32).reshape(-1, 4)
    return [(int(width), int(height)) for width, height, *_ in found]


@pytest.mark.parametrize("row", [row for row in media_images.ROWS if row.says], ids=lambda row: row.name)
def test_a_bad_image_is_refused_with_its_row(eye: Wire, row: media_images.Row) -> None:
    got = eye.refused(PREDICT, photos(PNG(), row.make()).SerializeToString())

    assert (got.code, got.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), got.everything
    is_plugins = "cannot be decoded" in row.says
    assert got.fields == (["inputs.photo[1]"] if is_plugins else ["inputs.photo"])
    assert row.says.replace("[0]", "[1]") in got.text and (is_plugins or "row 1 " in got.text)
    assert not [leak for leak in LEAKS if leak in got.everything]
    assert sizes(eye, PNG()) == [(31, 17)]


@pytest.mark.parametrize("row", [row for row in media_images.ROWS if not row.says], ids=lambda row: row.name)
def test_what_the_pixels_are_is_left_to_the_plugin(eye: Wire, row: media_images.Row) -> None:
    data = row.make()
    assert sizes(eye, data, PNG()) == [row.size, (31, 17)]
    assert pixels(data) == row.size[0] * row.size[1]


@pytest.mark.parametrize("make", [media_images.JPEG, PNG, media_images.WEBP], ids=["jpeg", "png", "webp"])
def test_any_cut_and_any_changed_byte_is_answered_by_a_size_or_a_refusal(make: media_images.Make) -> None:
    data = make()
    for place in range(min(len(data), 700)):
        for attempt in (data[:place], data[:place] + b"\xff" + data[place + 1 :], data[:place] + b"\0" + data[place:]):
            try:
                width, height = size_of(attempt)
            except BadImage:
                continue
            assert 0 < width < 2**32 and 0 < height < 2**32


def test_a_look_at_the_worst_image_is_short() -> None:
    """The look happens on the event loop, where a caller's file must not keep the others waiting."""
    worst = [b"\xff\xd8" + b"\xff\xfe\0\2" * 10**6, b"\xff\xd8\xff" + b"\xff" * 10**6]
    worst.append(PNG()[:33] + media_images.chunk(b"tEXt", b"a\0b") * 10**5 + PNG()[33:])
    for data in worst:
        start = time.thread_time()
        with pytest.raises(BadImage, match="before its pixels"):
            size_of(data)
        assert time.thread_time() - start < 0.005


def vectors(wire: Wire, *items: bytes) -> np.typing.NDArray[np.float32]:
    answer = wire.prediction.Predict(texts(*items), timeout=60)
    return np.frombuffer(answer.outputs[0].tensor.data, np.float32).reshape(len(items), -1)


@pytest.mark.parametrize("row", [row for row in media_texts.ROWS if row.says], ids=lambda row: row.name)
def test_a_bad_text_is_refused_with_its_row(wire: Wire, row: media_texts.Row) -> None:
    got = wire.refused(PREDICT, texts(b"red shoe", row.data).SerializeToString())

    assert (got.code, got.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), got.everything
    assert got.fields == ["inputs.text"] and f"row 1 {row.says}" in got.text
    assert wire.serving() and np.isfinite(vectors(wire, b"red shoe")).all()


@pytest.mark.parametrize("row", [row for row in media_texts.ROWS if not row.says], ids=lambda row: row.name)
def test_an_odd_text_has_a_unit_vector_and_leaves_its_neighbour_alone(wire: Wire, row: media_texts.Row) -> None:
    alone = vectors(wire, b"red shoe")
    found = vectors(wire, row.data, b"red shoe")

    assert np.isfinite(found).all()
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(found[1] - alone[0]).max() < 1e-5
    if row.like is not None:
        assert np.abs(found[0] - vectors(wire, row.like.encode())[0]).max() < 1e-5


def test_a_text_that_is_no_string_is_refused(wire: Wire) -> None:
    message = request("semantic.encoder", tensor("text", tensor_pb2.DATA_TYPE_BYTES, [1], items=[b"red shoe"]))
    got = wire.refused(PREDICT, message.SerializeToString())
    assert got.code is StatusCode.INVALID_ARGUMENT and "expected string" in got.text
