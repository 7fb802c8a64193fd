"""`python -m data_prep phantom | rsna | …`: write synthetic studies, or turn raw studies into a prepared data set."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from data_prep import prepare, write_phantom
from data_prep.findings import summary
from data_prep.study import READERS
from hgisam.errors import InputError, exit_line

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


class Layout(StrEnum):
    """The public data set whose file layout the phantom takes."""

    RSNA = "rsna"
    CT_ICH = "ct-ich"
    CQ500 = "cq500"


Jobs = Annotated[int, typer.Option(min=1, help="Worker processes.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Raw = Annotated[Path, typer.Argument(help="Folder of the raw data set; only read.")]
Out = Annotated[Path, typer.Argument(help="Output folder.")]
ImagePx = Annotated[int, typer.Option(min=8, help="Rows and columns of the prepared slices.")]
Field = Annotated[float, typer.Option(help="Side of the field of view in mm.")]
Fraction = Annotated[float, typer.Option(help="Fraction of the patients in the validation split.")]
LeaveOut = Annotated[
    list[Path] | None, typer.Option(help="Prepared data set whose patients are excluded; may be repeated.")
]
Folds = Annotated[int, typer.Option(min=2, help="Cross-validation folds; at least three to evaluate on.")]
KeepIntercept = Annotated[bool, typer.Option("--keep-intercept", help="Don't fix the wrong intercepts of RSNA images.")]
BrainMasks = Annotated[Path | None, typer.Option(help="Folder of brain masks of NIfTI scans to import.")]
Salt = Annotated[
    Path | None, typer.Option(help="File with the salt of the hashed ids.", show_default="ids.salt beside OUT")
]
Splits = Annotated[
    Path | None, typer.Option(help="CSV file with a given split: patient, split, fold.", show_default="split by --seed")
]
Resume = Annotated[bool, typer.Option("--resume/--afresh", help="Resume a stopped run, or start from scratch.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler, instead of --jobs.")]


@app.command()
def phantom(
    out: Out,
    layout: Annotated[Layout, typer.Option(help="Layout of the files.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")],
    seed: Seed = 0,
    jobs: Jobs = 1,
    matrix: Annotated[int, typer.Option(min=64, help="Rows and columns of a slice.")] = 256,
) -> None:
    """Write synthetic head CT studies in the layout of a public data set."""
    with _one_line_errors():
        write_phantom(out, layout=layout.value, patients=patients, seed=seed, jobs=jobs, matrix=matrix)
    typer.echo(f"{layout.value}: {patients} synthetic patients written to {out}")


def _add(kind: str, reader: ModuleType) -> None:
    """Adds the command of a reader; its help is the first line of the reader's docstring."""

    @app.command(kind, help=f"Prepare raw studies. {str(reader.__doc__).splitlines()[0]}")
    def command(
        raw: Raw, out: Out, jobs: Jobs = 1, image_px: ImagePx = 128, field_of_view_mm: Field = 200.0,
        validation_fraction: Fraction = 0.2, folds: Folds = 5, seed: Seed = 0, leave_out: LeaveOut = None,
        keep_intercept: KeepIntercept = False, brain_masks: BrainMasks = None, salt: Salt = None,
        splits: Splits = None, resume: Resume = True, scheduler: Scheduler = None,
    ) -> None:  # fmt: skip
        with _one_line_errors():
            prepare(
                kind, raw, out, image_px=image_px, field_of_view_mm=field_of_view_mm,
                validation_fraction=validation_fraction, folds=folds, seed=seed, leave_out=leave_out or (),
                keep_intercept=keep_intercept, brain_masks=brain_masks, salt=salt, splits=splits,
                resume=resume, workers=scheduler or jobs,
            )  # fmt: skip
        typer.echo(summary(out))


for _kind, _reader in READERS.items():
    _add(_kind, _reader)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Prints an error as one line; exit code 2 for a mistake of the user, 130 for Ctrl-C, 1 for a failing disk."""
    try:
        yield
    except InputError as error:
        _exit(str(error), 2)
    except KeyboardInterrupt:
        _exit("Stopped; the same command resumes here.", 130)
    except OSError as error:
        code, line = exit_line(error)
        _exit(line, code)


def _exit(line: str, code: int) -> None:
    typer.echo(line, err=True)
    raise typer.Exit(code)


def main() -> None:
    """Runs the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()


if __name__ == "__main__":
    main()
