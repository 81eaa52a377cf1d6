"""The frame of a benchmark of two sides: its arguments, rounds in turn within one run, spreads, table or JSON."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bench import report
from bench.report import Spread
from rich.progress import track
from rich.table import Table

M = TypeVar("M")


@dataclass(frozen=True)
class Figure(Generic[M]):
    """One figure of a round: `of` takes what was measured of either side, so that ratios are taken within a round."""

    title: str
    digits: int
    of: Callable[[M, M], float]


@dataclass(frozen=True)
class Case:
    """All rounds of one case, such as 64 calls in flight, by the name of the figure."""

    case: str
    figures: dict[str, Spread]
    rounds: dict[str, list[float]]


def arguments(doc: str | None, *, rounds: int, of: str, **counts: tuple[int, str]) -> argparse.Namespace:
    """`--rounds`, the number of alternations of the sides `of`; each count with default and meaning; what all share."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"alternations of {of}")
    for name, (default, meaning) in counts.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    return report.arguments(parser)


def turns(what: str, rounds: int) -> Iterable[int]:
    """The numbers of the rounds, with progress on standard error."""
    return track(range(rounds), what, console=report.progress_console(), transient=True)


def case(name: str, pairs: Sequence[tuple[M, M]], figures: Mapping[str, Figure[M]]) -> Case:
    """The figures of at least one round."""
    rounds = {key: [figure.of(*pair) for pair in pairs] for key, figure in figures.items()}
    return Case(name, {key: Spread.of(values) for key, values in rounds.items()}, rounds)


def show(name: str, doc: str | None, cases: Sequence[Case], figures: Mapping[str, Figure[M]], *, as_json: bool) -> None:
    """Print a line per figure and a column per case, or one JSON object."""
    table = Table("median (smallest to largest)", *(each.case for each in cases), title=doc)
    for key, figure in figures.items():
        table.add_row(figure.title, *(each.figures[key].show(figure.digits) for each in cases))
    report.show([table], {name: cases}, as_json=as_json)
