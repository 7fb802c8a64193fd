"""The commands of the book: `hgisam-book record | ledger`."""

from pathlib import Path
from typing import Annotated

import typer

from hgisam.cli import RunArgument
from hgisam.errors import InputError

app = typer.Typer(
    help="Keep the results of a run, and hold runs against what was published.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command()
def record(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(help="Folder to make, e.g. book/recorded/NAME.")],
    note: Annotated[str, typer.Option(help="What a reader should know of it, in a sentence.")] = "",
    with_checkpoint: Annotated[bool, typer.Option("--with-checkpoint", help="Also its weights, in float16.")] = False,
    trainings: Annotated[
        list[str],
        typer.Option(
            help="Also those of a study, for later runs to take: classifiers/binary-1. May be a pattern, repeated."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Pack the results of a finished run for readers who can't repeat it: no patients, no paths."""
    from hgisam_book.recorded.runs import record_run

    typer.echo(record_run(run, out, note=note, with_checkpoint=with_checkpoint, trainings=trainings))


@app.command()
def ledger(
    run: Annotated[list[Path], typer.Option(help="A run with results, e.g. runs/laptop. May be repeated.")] = [],  # noqa: B006
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a row that has run fails.")] = False,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Without --run: every run with results in here.")] = Path(
        "runs"
    ),
) -> None:
    """Every published claim and target of our own: what was said, what runs measured, PASS, FAIL or NOT RUN."""
    from hgisam_book.ledger.claims import FAIL, load_ledger, verdicts
    from hgisam_book.ledger.summary_query import read_summary
    from hgisam_book.ledger.tables import print_ledger

    if not run and not runs_dir.is_dir():
        raise InputError(
            f"--runs-dir {runs_dir}", "no such folder", "the folder of runs", "Make a run first: make book."
        )
    runs = run or [path.parent for path in sorted(runs_dir.glob("*/summary.json"))]
    table = verdicts(load_ledger(), {str(folder): read_summary(folder) for folder in runs})
    print_ledger(table)
    if strict and (table["verdict"] == FAIL).any():
        raise typer.Exit(1)
