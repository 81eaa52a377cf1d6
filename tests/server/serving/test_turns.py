"""Turns: the smallest key is found, also when keys have changed."""

from hypothesis import given
from hypothesis import strategies as st

from mercato_server.serving.turns import Key, Turns


class Thing:
    def __init__(self, value: int | None) -> None:
        self.value = value
        self.turn: Key | None = None

    def key(self) -> Key | None:
        return None if self.value is None else (self.value,)


@given(steps=st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 20)), max_size=60))
def test_the_first_is_always_the_smallest(steps: list[tuple[int, int | None]]) -> None:
    turns: Turns[Thing] = Turns()
    things = [Thing(None) for _ in range(5)]
    for place, value in steps:
        thing, before = things[place], things[place].value
        thing.value = value
        if before is None or (value is not None and value < before):
            turns.offer(thing)
        first = turns.first()
        values = [thing.value for thing in things if thing.value is not None]
        assert (first.value if first else None) == min(values, default=None)
