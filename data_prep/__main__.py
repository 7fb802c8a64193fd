"""`python -m data_prep phantom | rsna | ct-ich`: synthetic studies, and raw studies into prepared data sets."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from data_prep import prepare, write_phantom
from data_prep.prepare import summary
from hgisam.errors import InputError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


class Layout(StrEnum):
    """Which public data set the phantom's files look like."""

    RSNA = "rsna"
    CT_ICH = "ct-ich"


Jobs = Annotated[int, typer.Option(min=1, help="Processes.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Raw = Annotated[Path, typer.Argument(help="Folder of the raw data set; only read.")]
Out = Annotated[Path, typer.Argument(help="Folder to make.")]
ImagePx = Annotated[int, typer.Option(min=8, help="Side of the prepared slices.")]
Field = Annotated[float, typer.Option(help="Side of the field of view in mm.")]
Fraction = Annotated[float, typer.Option(help="Share of the patients that validate.")]
Folds = Annotated[int, typer.Option(min=2, help="Cross-validation folds.")]


@app.command()
def phantom(
    out: Out,
    layout: Annotated[Layout, typer.Option(help="Layout of the files.")],
    patients: Annotated[int, typer.Option(min=1, help="How many patients.")],
    seed: Seed = 0,
    jobs: Jobs = 1,
    matrix: Annotated[int, typer.Option(min=64, help="Rows and columns of a slice.")] = 256,
) -> None:
    """Write synthetic head CT studies in the layout of a public data set."""
    with _one_line_errors():
        write_phantom(out, layout=layout.value, patients=patients, seed=seed, jobs=jobs, matrix=matrix)
    typer.echo(f"{layout.value}: {patients} synthetic patients written to {out}")


@app.command()
def rsna(
    raw: Raw, out: Out, jobs: Jobs = 1, image_px: ImagePx = 128, field_of_view_mm: Field = 200.0,
    validation_fraction: Fraction = 0.2, folds: Folds = 5, seed: Seed = 0,
) -> None:  # fmt: skip
    """Prepare RSNA 2019: RAW holds stage_2_train.csv and stage_2_train/."""
    with _one_line_errors():
        prepare(
            "rsna", raw, out, image_px=image_px, field_of_view_mm=field_of_view_mm,
            validation_fraction=validation_fraction, folds=folds, seed=seed, jobs=jobs,
        )  # fmt: skip
    typer.echo(summary(out))


@app.command()
def ct_ich(
    raw: Raw, out: Out, jobs: Jobs = 1, image_px: ImagePx = 128, field_of_view_mm: Field = 200.0,
    validation_fraction: Fraction = 0.2, folds: Folds = 5, seed: Seed = 0,
) -> None:  # fmt: skip
    """Prepare CT-ICH: RAW holds ct_scans/, masks/ and hemorrhage_diagnosis_raw_ct.csv."""
    with _one_line_errors():
        prepare(
            "ct-ich", raw, out, image_px=image_px, field_of_view_mm=field_of_view_mm,
            validation_fraction=validation_fraction, folds=folds, seed=seed, jobs=jobs,
        )  # fmt: skip
    typer.echo(summary(out))


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """A mistake of the user's is one line and exit code 2, an interruption 130, a failing disk 1."""
    try:
        yield
    except InputError as error:
        _leave(str(error), 2)
    except KeyboardInterrupt:
        _leave("Stopped; the same command goes on from here.", 130)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or type(error).__name__
        where = f" ({error.filename})" if error.filename else ""
        _leave(f"Stopped: {reason}{where}; the same command goes on from here.", 1)


def _leave(line: str, code: int) -> None:
    typer.echo(line, err=True)
    raise typer.Exit(code)


def main() -> None:
    """Runs the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()


if __name__ == "__main__":
    main()
