"""What a request leaves out becomes rows, lengths and masks."""

import numpy as np

from mercato_plugin import Axis, ModelSpec, Tensor
from mercato_server.rpc.codec import Decoded
from mercato_server.rpc.defaults import fill_absent

SPEC = ModelSpec(
    name="shop.rank",
    inputs={
        "x": Tensor("float32", ("batch", 1)),
        "user": Tensor("float32", (2,), shared=True),
        "history": Tensor("int64", ("batch", Axis("length", max=9)), ragged=True, optional=True, pad=7),
    },
    outputs={"y": Tensor("float32", ("batch", 1))},
)


def test_an_absent_ragged_input_has_rows_of_no_length() -> None:
    decoded = Decoded()
    decoded.rows = 3
    decoded.arrays = {"x": np.zeros((3, 1), np.float32), "user": np.array([1.0, 2.0], np.float32)}

    inputs, present = fill_absent(SPEC, decoded)

    assert decoded.lengths["history"].tolist() == [0, 0, 0]
    assert len(inputs["history"]) == 3
    assert present["history"].tolist() == [False, False, False]
    assert inputs["user"].tolist() == [[1.0, 2.0]] * 3
