"""The commands that this package adds to `hgisam`: segment, calibrate."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
Checkpoints = Annotated[
    list[str], typer.Option("--checkpoint", help="phantom-binary, a training or a run; repeat for an ensemble.")
]


@app.command()
def segment(
    scan: Annotated[Path, typer.Argument(help="A NIfTI file, a DICOM folder or DICOMDIR; with --batch many scans.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("segmented"),
    checkpoint: Checkpoints = ["phantom-binary"],  # noqa: B006
    method: Annotated[
        str | None, typer.Option(help="Of a classifier; hgi_sam_density by default where calibrated.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Of the score map, in (0, 1].")] = None,
    series: Annotated[str | None, typer.Option(help="Number or SeriesInstanceUID, or all.")] = None,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="No mask where no bleeding is predicted.")] = True,
    seg: Annotated[bool, typer.Option("--seg", help="A DICOM SEG too; it carries the patient's name.")] = False,
    sr: Annotated[bool, typer.Option("--sr", help="A DICOM SR of the volume, and the SEG.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="SCAN holds many scans; each gets a folder.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, with --batch.")] = 1,
) -> None:
    """Segment intracranial hemorrhage in a head CT, on its own grid. Research only, never for diagnosis."""
    from hgisam_scans.batch import segment_folder, segment_one
    from hgisam_scans.outputs import Wanted

    wanted = Wanted(tuple(checkpoint), method, threshold, series, gate, seg or sr, sr)
    if batch:
        typer.echo(segment_folder(scan, out, wanted, jobs=jobs))
    else:
        typer.echo(segment_one(scan, out, wanted))


@app.command()
def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="phantom-binary, a training or a run.")],
    data: Annotated[Path | None, typer.Option(help="Raw data set with masks; phantoms by default.")] = None,
    kind: Annotated[str, typer.Option(help="Its reader: ct-ich, bhsd or instance.")] = "ct-ich",
    patients: Annotated[int, typer.Option(min=6, help="Phantoms to generate.")] = 90,
    seed: Annotated[int, typer.Option(min=0, help="Of the phantoms; other than that of the training.")] = 77,
    method: Annotated[list[str], typer.Option(help="Of a classifier; may be repeated. Four by default.")] = [],  # noqa: B006
    jobs: Annotated[int, typer.Option(min=1, help="Processes that generate phantoms.")] = 1,
) -> None:
    """Choose thresholds, calibrate the interval of the volume, and measure usual scans, beside the weights."""
    from hgisam_scans.calibration import CALIBRATED
    from hgisam_scans.calibration import calibrate as calibrate_checkpoint

    made = calibrate_checkpoint(
        checkpoint, data=data, kind=kind, patients=patients, seed=seed, methods=method or CALIBRATED, jobs=jobs
    )
    typer.echo(made)
