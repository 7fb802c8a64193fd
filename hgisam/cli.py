"""The command line: `hgisam train | map | evaluate | export | record | ledger | doctor`."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from hgisam.errors import InputError, exit_line
from hgisam.profile import Profile, load_profile

app = typer.Typer(
    help="Train a Swin classifier on slice labels, and turn its attention into segmentations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ProfileOption = Annotated[str, typer.Option("--profile", help="smoke, laptop, paper, or the path of a .yaml file.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Change one key: --set train.epochs=3. May be repeated.")]
RunArgument = Annotated[Path, typer.Argument(help="A finished run, e.g. runs/laptop.")]
OwnProfile = Annotated[str | None, typer.Option("--profile", help="Work on this profile's own run.")]
OtherRun = Annotated[Path | None, typer.Option("--run", help="A finished run to try on other data, e.g. runs/laptop.")]
OtherData = Annotated[Path | None, typer.Option("--data", help="With --run: a prepared set.")]
OtherOut = Annotated[Path | None, typer.Option("--out", help="With --run: folder to make.")]
RunsOption = Annotated[Path, typer.Option("--runs-dir", help="Where runs live.")]


def _profile(name: str, overrides: list[str]) -> Profile:
    return load_profile(name, overrides)


@app.command()
def train(profile: ProfileOption = "laptop", set_: SetOption = [], runs_dir: RunsOption = Path("runs")) -> None:  # noqa: B006
    """Train on the prepared rsna set of the run."""
    from hgisam.pipeline import train_step

    typer.echo(train_step(_profile(profile, set_), runs_dir))


@app.command(name="map")
def map_(
    profile: OwnProfile = None, set_: SetOption = [], runs_dir: RunsOption = Path("runs"),  # noqa: B006
    run: OtherRun = None, data: OtherData = None, out: OtherOut = None,
) -> None:  # fmt: skip
    """Extract the maps of the run's ct-ich set; or, with --run, --data and --out, of another prepared set."""
    from hgisam.elsewhere import map_elsewhere
    from hgisam.pipeline import map_step

    if (other := _elsewhere("map", profile, set_, run, data, out)) is not None:
        typer.echo(map_elsewhere(*other))
    else:
        typer.echo(map_step(_profile(profile or "laptop", set_), runs_dir))


@app.command()
def evaluate(
    profile: OwnProfile = None, set_: SetOption = [], runs_dir: RunsOption = Path("runs"),  # noqa: B006
    run: OtherRun = None, data: OtherData = None, out: OtherOut = None,
) -> None:  # fmt: skip
    """Choose thresholds and measure; or, with --run, --data and --out, try a finished run on another prepared set."""
    from hgisam.elsewhere import evaluate_elsewhere
    from hgisam.measurements import evaluate_step

    if (other := _elsewhere("evaluate", profile, set_, run, data, out)) is not None:
        typer.echo(evaluate_elsewhere(*other))
    else:
        typer.echo(evaluate_step(_profile(profile or "laptop", set_), runs_dir))


def _elsewhere(
    command: str, profile: str | None, overrides: list[str], run: Path | None, data: Path | None, out: Path | None
) -> tuple[Path, Path, Path] | None:
    """--run, --data and --out where all three are given, None where none is.

    Raises:
        InputError: If some are, or a profile besides.
    """
    if run is not None and data is not None and out is not None and profile is None and not overrides:
        return run, data, out
    given = {"run": run, "data": data, "out": out}
    got = [f"--{name}" for name, value in given.items() if value is not None]
    if not got:
        return None
    got += ["--profile"] * (profile is not None) + ["--set"] * bool(overrides)
    expected = "either --profile (and --set), or all of --run, --data and --out"
    raise InputError(f"hgisam {command}", " ".join(got), expected, f"See hgisam {command} --help.")


@app.command()
def export(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="Of the folder to make, e.g. phantom-binary.")],
    out: Annotated[Path | None, typer.Option(help="Where to make it; without, it ships with the package.")] = None,
) -> None:
    """Make of a run's training a small checkpoint with a card, to give away."""
    from hgisam.export import check_name, export_checkpoint
    from hgisam.pretrained import SHIPPED

    typer.echo(export_checkpoint(run / "train", (out or SHIPPED) / check_name(name)))


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
    from hgisam.recorded_runs import record_run

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
    from hgisam.ledger import FAIL, load_ledger, verdicts
    from hgisam.ledger_tables import print_ledger
    from hgisam.summary_query import read_summary

    if not run and not runs_dir.is_dir():
        raise InputError(
            f"--runs-dir {runs_dir}", "no such folder", "the folder of runs", "Make a run first: make book."
        )
    runs = run or [path.parent for path in sorted(runs_dir.glob("*/summary.json"))]
    table = verdicts(load_ledger(), {str(folder): read_summary(folder) for folder in runs})
    print_ledger(table)
    if strict and (table["verdict"] == FAIL).any():
        raise typer.Exit(1)


@app.command()
def doctor(
    runs_dir: RunsOption = Path("runs"),
    data: Annotated[list[Path], typer.Option(help="A prepared set to look at. May be repeated.")] = [],  # noqa: B006
) -> None:
    """What this machine has and lacks, and which profiles it can run; exit code 1 where something is missing."""
    from hgisam.doctor import BAD, can_run, examine

    findings = examine(runs_dir, data)
    for finding in findings:
        remedy = f"  → {finding.remedy}" if finding.remedy else ""
        typer.echo(f"{finding.state:8} {finding.what}: {finding.found}{remedy}")
    for profile, answer in can_run(runs_dir).items():
        typer.echo(f"{'':8} profile {profile}: {answer}")
    if any(finding.state == BAD for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Runs the command line; the user's mistakes are one line and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    try:
        app()
    except InputError as error:
        sys.exit(_fail(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_fail("Stopped; start the same command again, finished steps are not made anew.", 130))
    except OSError as error:
        code, line = exit_line(error)
        sys.exit(_fail(line, code))


def _fail(message: str, code: int) -> int:
    typer.echo(f"hgisam: {message}", err=True)
    return code
