"""The commands that the book adds to `hgisam`: export, doctor, record, ledger."""

from pathlib import Path
from typing import Annotated

import typer

from hgisam.errors import InputError

app = typer.Typer()
RunArgument = Annotated[Path, typer.Argument(help="A finished run, e.g. runs/laptop.")]
RunsOption = Annotated[Path, typer.Option("--runs-dir", help="Folder of all runs.")]


@app.command()
def export(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="Name of the new folder, e.g. phantom-binary.")],
    out: Annotated[
        Path | None, typer.Option(help="Parent folder; by default that of the checkpoints shipped with hgisam.")
    ] = None,
) -> None:
    """Export the network of a run as a small checkpoint with a model card, ready to publish."""
    from hgisam.models.checkpoint import SHIPPED
    from hgisam_book.recorded.export import check_name, export_checkpoint

    typer.echo(export_checkpoint(run / "train", (out or SHIPPED) / check_name(name)))


@app.command()
def doctor(
    runs_dir: RunsOption = Path("runs"),
    data: Annotated[list[Path], typer.Option(help="A prepared data set to check. May be repeated.")] = [],  # noqa: B006
) -> None:
    """Check this machine: what is missing, and which profiles it can run; exit code 1 if anything is missing."""
    from hgisam_book.doctor import BAD, can_run, examine

    findings = examine(runs_dir, data)
    for finding in findings:
        remedy = f"  → {finding.remedy}" if finding.remedy else ""
        typer.echo(f"{finding.state:8} {finding.what}: {finding.found}{remedy}")
    for profile, answer in can_run(runs_dir).items():
        typer.echo(f"{'':8} profile {profile}: {answer}")
    if any(finding.state == BAD for finding in findings):
        raise typer.Exit(1)


@app.command()
def record(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(help="Folder of the record, e.g. book/recorded/NAME.")],
    note: Annotated[str, typer.Option(help="One sentence about the run for readers.")] = "",
    with_checkpoint: Annotated[bool, typer.Option("--with-checkpoint", help="Include weights in float16.")] = False,
    trainings: Annotated[
        list[str],
        typer.Option(
            help="Include trainings of a study for reuse by later runs: classifiers/binary-1, or a pattern. Repeatable."
        ),
    ] = [],  # noqa: B006
    add: Annotated[
        bool, typer.Option("--add", help="Add the trainings to the record OUT, and change no more.")
    ] = False,
) -> None:
    """Record the results of a finished run for readers who cannot rerun it, without patients and without paths."""
    from hgisam_book.recorded.runs import add_trainings, record_run

    if add and (note or with_checkpoint):
        raise InputError(
            "--add", "with --note or --with-checkpoint", "--trainings alone", "Record the whole run again."
        )
    if add:
        typer.echo(add_trainings(run, out, trainings))
    else:
        typer.echo(record_run(run, out, note=note, with_checkpoint=with_checkpoint, trainings=trainings))


@app.command()
def ledger(
    run: Annotated[list[Path], typer.Option(help="A run with results, e.g. runs/laptop. May be repeated.")] = [],  # noqa: B006
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a claim fails.")] = False,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Without --run: compare all runs in here.")] = Path(
        "runs"
    ),
) -> None:
    """Compare runs with all published claims and our own targets: PASS, FAIL or NOT RUN."""
    from hgisam_book.ledger.claims import FAIL, load_ledger, verdicts
    from hgisam_book.ledger.summary_query import read_summary
    from hgisam_book.ledger.tables import print_ledger

    if not run and not runs_dir.is_dir():
        raise InputError(f"--runs-dir {runs_dir}", "no such folder", "the folder of runs", "Run `make book` first.")
    runs = run or [path.parent for path in sorted(runs_dir.glob("*/summary.json"))]
    table = verdicts(load_ledger(), {str(folder): read_summary(folder) for folder in runs})
    print_ledger(table)
    if strict and (table["verdict"] == FAIL).any():
        raise typer.Exit(1)
