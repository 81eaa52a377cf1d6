"""`mercato data`: made-up data to train and try models with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from mercato_client.cli.document import show_document
from mercato_client.errors import InvalidInput, Violation
from mercato_shop.card import ShopCard
from mercato_shop.shop import OnProgress, write_shop

app = typer.Typer(
    help="Write made-up data to train and try models with.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def data() -> None:
    """Write made-up data to train and try models with."""


@app.command()
def shop(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; an older shop in it is replaced.")],
    language: Annotated[str, typer.Option(help="Language of the shop: en or zh.")] = "en",
    products: Annotated[int, typer.Option(help="Number of products, 10 to 100000.")] = 2_000,
    users: Annotated[int, typer.Option(help="Number of users, 10 to 1000000.")] = 5_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a synthetic shop: products with pictures, users, interactions, reviews, messages and sales."""
    try:
        with _progress() as on_progress:
            card = write_shop(
                out, language=language, products=products, users=users, seed=seed, on_progress=on_progress
            )
    except InvalidInput as error:
        raise InvalidInput.of(*map(_as_typed, error.violations)) from error
    if as_json:
        show_document(card)
    else:
        _show(out, card)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """One bar per step on standard error; nothing at all but on a terminal."""
    console, tasks = Console(stderr=True), dict[str, TaskID]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)

        yield tell


def _as_typed(violation: Violation) -> Violation:
    """The argument `products` is the option --products here, and `out` the argument OUT."""
    name = "OUT" if violation.field == "out" else f"--{violation.field}"
    return Violation(name, violation.description)


def _show(out: Path, card: ShopCard) -> None:
    table = Table("file", title=f"Shop ({card.language}) in {out}", title_justify="left")
    table.add_column("rows", justify="right")
    table.add_column("bytes", justify="right")
    for file in card.files:
        table.add_row(file.name, f"{file.rows:,}", f"{file.bytes:,}")
    Console().print(table)
