"""The seeds of `make fuzz` through its target, without the fuzzer."""

from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.decode import decode
from tests.fuzz.mutate import mutated
from tests.server.bad.messages import GOOD, kinds


def test_every_seed_is_decoded_or_refused() -> None:
    outcomes = [decode(data).refused for data in corpus.requests()]
    assert outcomes.count(True) > 200 and outcomes.count(False) > 50


def test_every_kind_of_input_has_a_good_seed() -> None:
    assert all(not decode(kinds(given).SerializeToString()).refused for given in corpus.absent())


def test_seeds_are_short_and_different(tmp_path: Path) -> None:
    count = corpus.write(tmp_path)
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == count > 200
    assert max(map(len, contents)) <= corpus.LONGEST


def test_changed_seeds_are_decoded_or_refused() -> None:
    changed = [mutated(data, seed, corpus.LONGEST) for data in corpus.requests() for seed in range(5)]
    outcomes = [decode(data).refused for data in changed if data is not None]
    assert outcomes.count(True) > 500 and outcomes.count(False) > 100


def test_a_change_can_be_repeated() -> None:
    assert mutated(GOOD, 7, 4096) == mutated(GOOD, 7, 4096) != mutated(GOOD, 8, 4096)
    assert mutated(b"\xff", 7, 4096) is None and mutated(GOOD, 7, 4) is None
