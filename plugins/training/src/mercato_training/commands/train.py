"""`mercato train`: from data to a model folder that a server serves."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mercato_training.cleaning import told
from mercato_training.commands import tables
from mercato_training.commands.progress import Bars
from mercato_training.options import pairs, renames
from mercato_training.ranks import group_of
from mercato_training.run import Job, Trained, has_checkpoint, train

MIB = 1024 * 1024

INTERRUPTED = 130
"""Exit code of a command that somebody ended with Ctrl-C, as shells have it."""

DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR_OR_FILE", help="A folder of tables or pictures, or one CSV or Parquet.")
]
ModelsDirOption = Annotated[
    Path, typer.Option("--models-dir", envvar="MERCATO_MODELS_DIR", help="Folder of the trained models.")
]
RenameOption = Annotated[
    list[str] | None, typer.Option("--rename", metavar="THEIRS=OURS", help="A column of the data by another name.")
]
EncodingOption = Annotated[str, typer.Option(help="Encoding of CSV files, such as gb18030.")]


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of an installed model that can be trained.")],
    data: DataOption,
    models_dir: ModelsDirOption = Path("models"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs; the model's own number without it.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    processes: Annotated[int, typer.Option(min=1, help="Processes that share every batch.")] = 1,
    set_option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the model; repeatable.")
    ] = None,
    rename: RenameOption = None,
    encoding: EncodingOption = "utf-8",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="What randomness starts from.")] = 7,
    hash_users: Annotated[
        Path | None, typer.Option(metavar="SALT_FILE", help="Replace people's ids by keyed hashes.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same training was ended.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train a model on data and write the next version of its model folder."""
    job = Job(
        model=model,
        data=data,
        models_dir=models_dir,
        given=pairs(set_option or [], "--set"),
        renames=renames(rename or []),
        encoding=encoding,
        seed=seed,
        epochs=epochs,
        device=device,
        processes=processes,
        hash_users=hash_users,
        resumes=resume,
    )
    with interruptible(job), Bars(Console(stderr=True)) as bars, group_of(job) as group:
        trained = train(job, group, bars)
    assert trained is not None, "the first process leads"
    if json_output:
        print(json.dumps(document(trained), indent=2, ensure_ascii=False))
    else:
        _show(trained)


@contextmanager
def interruptible(job: Job) -> Iterator[None]:
    """Ctrl-C ends the command with a line that says how to go on, if that is possible."""
    start = time.time()
    try:
        yield
    except KeyboardInterrupt:
        way_on = "; go on with --resume" if has_checkpoint(job, start) else ""
        typer.echo(f"mercato: interrupted{way_on}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def document(trained: Trained) -> dict[str, Any]:
    """What came of a training, for machines."""
    return {
        "model": trained.folder.model,
        "version": trained.folder.version,
        "folder": str(trained.folder.path),
        "metrics": dict(trained.folder.metrics),
        "test_rows": trained.evaluation.rows,
        "tables": {
            name: {"read": table.read, "rows": table.rows, "dropped": dict(table.dropped)}
            for name, table in trained.data.tables.items()
        },
        "seconds": round(trained.seconds, 2),
        "peak_bytes": trained.peak_bytes,
    }


def _show(trained: Trained) -> None:
    for name, table in trained.data.tables.items():
        print(f"{name}: {table.rows} of {table.read} rows; {told(table)}")
    metrics = trained.folder.metrics
    names = [name for name in metrics if not name.startswith("baseline_")]
    rows = [(name, tables.number(metrics[name]), _baseline(metrics, name)) for name in names]
    print(f"{trained.folder.model} {trained.folder.version} on {trained.evaluation.rows} held-out rows:")
    tables.show(("metric", "value", "baseline"), rows)
    print(
        f"wrote {trained.folder.path} in {trained.seconds:.1f} s, at most {trained.peak_bytes / MIB:.0f} MiB\n"
        f"serve it: mercato serve --models-dir {trained.folder.path.parents[1]}"
    )


def _baseline(metrics: Any, name: str) -> str:
    found = metrics.get(f"baseline_{name}")
    return "" if found is None else tables.number(found)
