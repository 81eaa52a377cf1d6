"""The gRPC interoperability cases by their usual names: Python and Node get the same facts of the same server.

https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md describes what each name stands for.
"""

from typing import Any

import pytest
from tests.interop import stubs
from tests.interop.conftest import Waiting
from tests.interop.languages import Client, node
from tests.interop.plugin import SPECIAL
from tests.server.bad.wire_peer import Peer, call, message
from tests.server.calls import Wire, pricing
from tests.server.running import Running

from mercato.v1 import prediction_pb2
from mercato_client import Client as Facade

MODELS = ["pricing.linear", "semantic.encoder"]
UNIMPLEMENTED = {"code": "UNIMPLEMENTED", "text": "Method not found!", "reason": "", "facts": {}, "fields": []}


def refused(code: str, reason: str, text: str, model: str, *fields: str) -> dict[str, Any]:
    return {"code": code, "text": text, "reason": reason, "facts": {"model": model}, "fields": list(fields)}


def test_empty_unary(client: Client, server: Running) -> None:
    got = client("empty_unary", server.address)
    assert got["models"] == MODELS
    assert (got["predict"]["code"], got["predict"]["reason"]) == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_large_unary(client: Client, server: Running) -> None:
    assert client("large_unary", server.address) == {"shape": [64, 384], "norms": [1.0]}


def test_large_answer(client: Client, waiting: Waiting) -> None:
    assert client("large_answer", waiting.address) == {"shape": [32, 32_768], "bytes": 4 * 2**20, "equal": True}


def test_message_limit(client: Client, server: Running) -> None:
    assert client("message_limit", server.address) == {"at": "OK", "over": "RESOURCE_EXHAUSTED", "then": 8.0}


def test_client_compressed_unary(client: Client, server: Running) -> None:
    assert client("client_compressed_unary", server.address) == {"gzip": [64, 384], "deflate": [64, 384]}


def test_client_compressed_streaming(client: Client, server: Running) -> None:
    rows = {str(number): [1, 1] for number in range(4)}
    assert client("client_compressed_streaming", server.address) == {"rows": rows, "code": "OK"}


@pytest.mark.parametrize("accepted", [b"gzip", b"deflate", b"identity"])
def test_server_compressed_unary(server: Running, accepted: bytes) -> None:
    with Peer(server.address, settings={}) as peer:
        peer.open(1, call((b"grpc-accept-encoding", accepted)))
        peer.data(1, message(pricing([[4.0]]).SerializeToString()), end=True)
        reply = peer.reply(1)
    assert (reply.header("grpc-status"), reply.data[0]) == ("0", 0), "answers leave uncompressed"
    assert reply.header("grpc-encoding") in (None, "identity")
    assert prediction_pb2.PredictResponse.FromString(reply.data[5:]).model.name == "pricing.linear"


def test_ping_pong(client: Client, server: Running) -> None:
    values = [[str(number), 2.0 * number] for number in range(50)]
    assert client("ping_pong", server.address) == {"values": values, "left": 0, "code": "OK"}


def test_empty_stream(client: Client, server: Running) -> None:
    assert client("empty_stream", server.address) == {"rows": {}, "code": "OK"}


def test_client_streaming(client: Client, server: Running) -> None:
    rows = {str(size): [size, 1] for size in (64, 1, 17, 33)}
    assert client("client_streaming", server.address) == {"rows": rows, "code": "OK"}


def test_server_streaming(client: Client, waiting: Waiting) -> None:
    with waiting.asleep():
        got = client("server_streaming", waiting.address)
    assert got == {"order": ["quick", "slow"], "code": "CANCELLED", "left": 0}


def test_custom_metadata(client: Client, server: Running) -> None:
    assert client("custom_metadata", server.address) == {"answer": "interop-1", "error": "interop-1", "own": "own"}


def test_status_code_and_message(client: Client, server: Running) -> None:
    text = "model 'pricing.linear': inputs.x: got dtype float64, expected float32"
    wrong = refused("INVALID_ARGUMENT", "INVALID_REQUEST", text, "pricing.linear", "inputs.x")
    text = "there is no model 'no.model'; there are pricing.linear, semantic.encoder"
    missing = refused("NOT_FOUND", "MODEL_NOT_FOUND", text, "no.model")
    got = client("status_code_and_message", server.address)
    assert got == {"rpc": [wrong, missing], "in_band": [wrong, missing], "left": 0}


def test_special_status_message(client: Client, waiting: Waiting) -> None:
    name = "红色跑鞋\t\n😈"
    text = f"there is no model {name!a}; there are test.gate, test.wide"
    got = client("special_status_message", waiting.address)
    assert got["plugin"]["text"] == f"model 'test.wide': inputs.x: {SPECIAL}"
    assert (got["name"]["code"], got["name"]["text"]) == ("NOT_FOUND", text)


@pytest.mark.parametrize("case", ["unimplemented_method", "unimplemented_service"])
def test_unimplemented(client: Client, server: Running, case: str) -> None:
    assert client(case, server.address) == UNIMPLEMENTED


def test_cancel_after_begin(client: Client, server: Running) -> None:
    assert client("cancel_after_begin", server.address) == {"code": "CANCELLED", "then": 8.0}


def test_cancel_after_first_response(client: Client, server: Running) -> None:
    got = client("cancel_after_first_response", server.address)
    assert got == {"first": "first", "code": "CANCELLED", "then": 8.0}


def test_timeout_on_sleeping_server(client: Client, waiting: Waiting) -> None:
    with waiting.asleep():
        got = client("timeout_on_sleeping_server", waiting.address)
    assert got == {"unary": "DEADLINE_EXCEEDED", "stream": "DEADLINE_EXCEEDED"}


@pytest.mark.parametrize("case", ["rpc_soak", "channel_soak"])
def test_soak(client: Client, server: Running, case: str) -> None:
    assert client(case, server.address) == {"values": [8.0]}


def test_numbers_keep_their_bits(client: Client, waiting: Waiting) -> None:
    got = client("numbers", waiting.address)
    assert got.pop("far") == "model 'test.wide' has no version 9007199254740993; it has 1"
    assert got == {"equal": True, "version": "1", "rows": "1", "measured": True}


def test_every_client_gets_the_same_vectors(server: Running, wire: Wire) -> None:
    with Facade(server.address, timeout=60) as facade:
        expected = facade.predict("semantic.encoder", {"text": list(stubs.TEXTS)})["embedding"]
    for client in (stubs.run, node):
        got = client("vectors", server.address)
        assert got["price"] == 8.0
        assert got["vectors"] == pytest.approx(expected, abs=1e-6)
