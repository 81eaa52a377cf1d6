"""The process that libFuzzer runs in: `python -m tests.fuzz.target CORPUS -max_total_time=60 ...`."""

import sys

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]
from tests.fuzz.mutate import mutated

with atheris.instrument_imports(include=["mercato_server", "mercato_plugin", "tests.fuzz.decode"]):
    from tests.fuzz.decode import decode


def one_input(data: bytes) -> None:
    """One execution; anything raised is a finding."""
    decode(data)


def changed(data: bytes, longest: int, seed: int) -> bytes:
    """Half of the time a change of the message, else one of its bytes."""
    whole = mutated(data, seed, longest) if seed % 2 else None
    return bytes(atheris.Mutate(data, longest)) if whole is None else whole


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=changed)
    atheris.Fuzz()
