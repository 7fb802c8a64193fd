"""The command line: `hgisam train | map | evaluate`, and the commands that other packages add (`hgisam.commands`)."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from hgisam.config.profile import load_profile
from hgisam.errors import InputError

app = typer.Typer(
    help="Train a Swin classifier on slice labels, and turn its attention into segmentations.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip
ProfileOption = Annotated[str, typer.Option("--profile", help="smoke, laptop, paper, or the path of a .yaml file.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Change one key: --set train.epochs=3. May be repeated.")]
OwnProfile = Annotated[str | None, typer.Option("--profile", help="Profile of the run; laptop by default.")]
OtherRun = Annotated[Path | None, typer.Option("--run", help="Validate externally: phantom-binary, runs/laptop, …")]
OtherData = Annotated[Path | None, typer.Option("--data", help="With --run: a prepared set.")]
OtherOut = Annotated[Path | None, typer.Option("--out", help="With --run: the output folder.")]
RunsOption = Annotated[Path, typer.Option("--runs-dir", help="Folder of all runs.")]


@app.command()
def train(profile: ProfileOption = "laptop", set_: SetOption = [], runs_dir: RunsOption = Path("runs")) -> None:  # noqa: B006
    """Train on the prepared rsna set of the run."""
    from hgisam.pipeline import train_step

    typer.echo(train_step(load_profile(profile, set_), runs_dir))


@app.command(name="map")
def map_(
    profile: OwnProfile = None, set_: SetOption = [], runs_dir: RunsOption = Path("runs"),  # noqa: B006
    run: OtherRun = None, data: OtherData = None, out: OtherOut = None,
) -> None:  # fmt: skip
    """Extract the maps of the run's ct-ich set; or, with --run, --data and --out, of another prepared set."""
    from hgisam.inference.external import map_external
    from hgisam.pipeline import map_step

    if (external := _external("map", profile, set_, run, data, out)) is not None:
        typer.echo(map_external(*external))
    else:
        typer.echo(map_step(load_profile(profile or "laptop", set_), runs_dir))


@app.command()
def evaluate(
    profile: OwnProfile = None, set_: SetOption = [], runs_dir: RunsOption = Path("runs"),  # noqa: B006
    run: OtherRun = None, data: OtherData = None, out: OtherOut = None,
) -> None:  # fmt: skip
    """Choose thresholds and evaluate; with --run, --data and --out, validate a finished run on another prepared set."""
    from hgisam.inference.external import evaluate_external
    from hgisam.pipeline import evaluate_step

    if (external := _external("evaluate", profile, set_, run, data, out)) is not None:
        typer.echo(evaluate_external(*external))
    else:
        typer.echo(evaluate_step(load_profile(profile or "laptop", set_), runs_dir))


def _external(
    command: str, profile: str | None, overrides: list[str], run: Path | None, data: Path | None, out: Path | None
) -> tuple[Path, Path, Path] | None:
    """--run, --data and --out if all three are given, None if none is; an InputError for any other mixture."""
    if run is not None and data is not None and out is not None and profile is None and not overrides:
        return run, data, out
    given = {"run": run, "data": data, "out": out}
    got = [f"--{name}" for name, value in given.items() if value is not None]
    if not got:
        return None
    got += ["--profile"] * (profile is not None) + ["--set"] * bool(overrides)
    expected = "either --profile (and --set), or all of --run, --data and --out"
    raise InputError(f"hgisam {command}", " ".join(got), expected, f"See hgisam {command} --help.")


for extension in entry_points(group="hgisam.commands"):
    app.add_typer(extension.load())
