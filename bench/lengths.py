"""`make bench-lengths`: padding and texts per second of semantic.encoder with mixed lengths beside plain padding."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import uvloop
from bench import encoder, frame, isolation, plain, plugin, servers
from bench.frame import Case, Figure
from bench.load import PREDICT, Call, connection, drive
from tokenizers import Tokenizer

from mercato.v1 import prediction_pb2

IN_FLIGHT = 64
MEDIAN, SIGMA, SHORTEST, LONGEST = 30, 0.8, 5, 200
SEED = 11
WORDS = ("red", "shoes", "steel", "desk", "lamp", "black", "chair", "phone", "travel", "box", "gift", "small", "light",
         "cotton", "shirt", "size", "green", "leather", "bag", "kitchen", "table", "wooden")  # fmt: skip
"""Each is one token, so that a text has as many tokens as were drawn."""
MARKS = 2
"""The tokens that open and close a text."""

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """Texts per second, and tokens that were computed over those of the texts."""

    rate: float
    padded: float


FIGURES: dict[str, Figure[Side]] = {
    "encoder_padded": Figure("encoder, padded over real tokens", 2, lambda ours, _: ours.padded),
    "plain_padded": Figure("plain, padded over real tokens", 2, lambda _, plain: plain.padded),
    "encoder_rate": Figure("encoder, texts/s", 0, lambda ours, _: ours.rate),
    "plain_rate": Figure("plain, texts/s", 0, lambda _, plain: plain.rate),
    "rate_ratio": Figure("ratio", 2, lambda ours, plain: ours.rate / plain.rate),
}


def main() -> None:
    """Measure and print."""
    asked = frame.arguments(__doc__, rounds=5, of="the two models", calls=(384, "texts per round"))
    case = uvloop.run(measure(asked.store, asked.rounds, asked.calls))
    frame.show("lengths", __doc__, [case], FIGURES, as_json=asked.json)


async def measure(store: Path | None, rounds: int, calls: int) -> Case:
    """One server of both models, loaded in turn with the same texts in the same order."""
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as place:
        folder = Path(place)
        plain.install(folder)
        env = plugin.environment(folder, plain.DISTRIBUTION, "mercato-semantic")
        with servers.mercato(store, env=env) as server:
            server.event("ready")
            async with connection(server.address, PREDICT) as call:
                return await _alternate(call, store, rounds, calls)


async def _alternate(call: Call, store: Path | None, rounds: int, calls: int) -> Case:
    drawn = lengths(calls)
    texts = [text(length) for length in drawn.tolist()]
    sides = [[_request(model, text) for text in texts] for model in (encoder.MODEL, plain.MODEL)]
    files = (await encoder.artifact(call, store)).files
    _check_tokens(Tokenizer.from_file(str(files / "tokenizer.json")), texts, drawn)
    pairs = []
    for _ in frame.turns("rounds", rounds):
        (ours, embeddings), (padded, others) = [await _round(call, side, drawn) for side in sides]
        isolation.same_embeddings(embeddings, others)
        pairs.append((ours, padded))
    return frame.case(f"{IN_FLIGHT} in flight", pairs, FIGURES)


async def _round(call: Call, requests: Sequence[bytes], tokens: Lengths) -> tuple[Side, list[bytes]]:
    await drive(call, requests, calls=len(requests) // 10, in_flight=IN_FLIGHT)
    load = await drive(call, requests, calls=len(requests), in_flight=IN_FLIGHT)
    shares = [prediction_pb2.PredictResponse.FromString(answer).receipt.padding for answer in load.answers]
    return Side(len(requests) / load.seconds, padded_over_real(tokens, np.array(shares))), load.answers


def padded_over_real(tokens: Lengths, padding: npt.NDArray[np.float64]) -> float:
    """Tokens computed over tokens of the texts, from each text's tokens and the padding share p of its batch.

    A batch of r real tokens has computed r / (1 - p). The texts of a batch have r together, so the sum of
    tokens / (1 - p) over texts is that over batches, whatever their sizes.
    """
    return float((tokens / (1 - padding)).sum() / tokens.sum())


def lengths(count: int) -> Lengths:
    """Tokens of each text: log-normal, cut to what a shop text has."""
    drawn = np.random.default_rng(SEED).lognormal(np.log(MEDIAN), SIGMA, count)
    return np.clip(np.rint(drawn), SHORTEST, LONGEST).astype(np.int64)


def text(tokens: int) -> str:
    """Shop words that make so many tokens."""
    return " ".join(WORDS[(tokens + place) % len(WORDS)] for place in range(tokens - MARKS))


def _check_tokens(tokenizer: Tokenizer, texts: Sequence[str], drawn: Lengths) -> None:
    """Raise RuntimeError unless the server's tokenizer gives the lengths that were drawn."""
    found = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]
    if found != drawn.tolist():
        raise RuntimeError("the texts do not have the numbers of tokens that were drawn")


def _request(model: str, text: str) -> bytes:
    request = encoder.request(text)
    request.model.name, request.want_receipt = model, True
    return request.SerializeToString()


if __name__ == "__main__":
    main()
