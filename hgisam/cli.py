"""The command line: `hgisam train | map | evaluate`, and what other packages add to it (`hgisam.commands`)."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from hgisam.config.profile import Profile, load_profile
from hgisam.errors import InputError

app = typer.Typer(
    help="Train a Swin classifier on slice labels, and turn its attention into segmentations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ProfileOption = Annotated[str, typer.Option("--profile", help="smoke, laptop, paper, or the path of a .yaml file.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Change one key: --set train.epochs=3. May be repeated.")]
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
    from hgisam.inference.external import map_external
    from hgisam.pipeline import map_step

    if (other := _elsewhere("map", profile, set_, run, data, out)) is not None:
        typer.echo(map_external(*other))
    else:
        typer.echo(map_step(_profile(profile or "laptop", set_), runs_dir))


@app.command()
def evaluate(
    profile: OwnProfile = None, set_: SetOption = [], runs_dir: RunsOption = Path("runs"),  # noqa: B006
    run: OtherRun = None, data: OtherData = None, out: OtherOut = None,
) -> None:  # fmt: skip
    """Choose thresholds and measure; or, with --run, --data and --out, try a finished run on another prepared set."""
    from hgisam.inference.external import evaluate_external
    from hgisam.pipeline import evaluate_step

    if (other := _elsewhere("evaluate", profile, set_, run, data, out)) is not None:
        typer.echo(evaluate_external(*other))
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


for extension in entry_points(group="hgisam.commands"):
    app.add_typer(extension.load())
