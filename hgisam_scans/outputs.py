"""Files of a segmented scan, and the table of many. None holds a name of a patient or file, but for SEG and SR."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from data_prep.findings import list_of_files
from hgisam.data.labels import SUBTYPES
from hgisam.runs.files import write_json
from hgisam.runs.folders import whole_file
from hgisam_scans.report import STATEMENT, render_report, trained_on
from hgisam_scans.segmented_scan import SegmentedScan

STATUSES = TRUSTED, UNCALIBRATED, NOT_TRUSTED, FAILED = "ok", "not calibrated", "not trusted", "failed"
RESULT, TABLE = "result.json", "results.csv"
COLUMNS = (
    "scan", "status", "ml", "low_ml", "high_ml", "spread_ml", *(f"{name}_ml" for name in SUBTYPES), "slices",
    "bleeding_slices", "max_score", "series", "slice_mm", "checkpoint", "method", "threshold", "reason",
)  # fmt: skip


class Wanted(NamedTuple):
    """What to segment with, and what to write; see `hgisam segment --help`."""

    checkpoint: tuple[str, ...] = ("phantom-binary",)
    method: str | None = None
    threshold: float | None = None
    series: str | None = None
    gate: bool = True
    seg: bool = False
    sr: bool = False


def write_outputs(scan: SegmentedScan, folder: str | Path, wanted: Wanted, ident: str, fingerprint: str) -> None:
    """Write all files of a scan: masks, `result.json`, `results.csv`, `slices.csv`, `report.html`, perhaps SEG and SR.

    Args:
        scan: The segmented scan.
        folder: Exists.
        wanted: Whether to write a SEG and an SR.
        ident: Public id of the scan.
        fingerprint: Of scan and settings, for a later call that finds the result done.

    Raises:
        InputError: If a SEG or SR is wanted, and the DICOM images lack what these refer to.
    """
    folder = Path(folder)
    scan.save_nifti(folder)
    remarks = list(scan.remarks)
    if wanted.seg and scan.choice.chosen.kind != "DICOM":
        remarks.append("no SEG was written: the scan has no DICOM images that it could refer to")
    elif wanted.sr and scan.trusted:
        scan.save_dicom_sr(folder / "sr.dcm", folder / "seg.dcm")
    elif wanted.seg:
        scan.save_dicom_seg(folder / "seg.dcm")
        if wanted.sr:
            remarks.append("no SR was written: the volume is not trusted")
    table = pd.DataFrame(
        {
            "slice": np.arange(1, len(scan.scores) + 1), "position_mm": scan.positions_mm.round(3),
            "score": scan.scores.round(5), "bleeds": scan.bleeds.astype(int),
            "mask_pixels": scan.mask.sum(axis=(1, 2)),
        }
    )  # fmt: skip
    table.to_csv(folder / "slices.csv", index=False)
    (folder / "report.html").write_text(render_report(scan, ident), encoding="utf-8")
    result = result_of(scan, ident)
    write_table([result], folder)
    names = sorted({RESULT, *(path.name for path in folder.iterdir())})
    write_json(folder / RESULT, result | {"remarks": remarks, "fingerprint": fingerprint, "files": names})


def result_of(scan: SegmentedScan, ident: str) -> dict[str, Any]:
    """Content of `result.json`; volumes are None where the result cannot be trusted."""
    low, high = scan.interval_ml or (None, None)
    volumes = {"ml": scan.ml, "low_ml": low, "high_ml": high, "spread_ml": scan.spread_ml}
    volumes |= {f"{name}_ml": ml for name, ml in scan.ml_by_subtype.items()}
    calibration = scan.networks[0].calibration if scan.interval_ml else None
    chosen = scan.choice.chosen
    return {
        "scan": ident,
        "status": NOT_TRUSTED if not scan.trusted else TRUSTED if scan.calibrated else UNCALIBRATED,
        **{name: _rounded(value) if scan.trusted else None for name, value in volumes.items()},
        "interval_calibrated_on": calibration and calibration.cohort,
        "reason": "; ".join(scan.doubts),
        "measured": {name: _rounded(value) for name, value in scan.measured.items()},
        "slices": len(scan.scores), "bleeding_slices": int(scan.bleeds.sum()),
        "max_score": _rounded(float(scan.scores.max())), "spacing_mm": [_rounded(mm) for mm in scan.spacing],
        "kind": chosen.kind, "series": chosen.number, "slice_mm": chosen.slice_mm,
        "series_chosen_because": scan.choice.reason,
        "series_not_chosen": [{"series": name, "reason": against} for name, against in scan.choice.others],
        "images_skipped": len(scan.skipped),
        "checkpoint": " + ".join(network.name for network in scan.networks),
        "weights_sha256": [network.sha256 for network in scan.networks], "method": scan.method,
        "threshold": _rounded(float(np.mean([network.threshold for network in scan.networks]))),
        "detection_threshold": _rounded(float(np.mean([network.detection_threshold for network in scan.networks]))),
        "gated": scan.gated,
        "statement": f"{STATEMENT} {trained_on(scan)}",
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    """Five significant digits; None for a value that is no number."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def write_table(results: Iterable[Mapping[str, Any]], folder: str | Path) -> None:
    """Write `results.csv`, one row per scan."""
    with whole_file(Path(folder, TABLE)) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        for result in results:
            writer.writerow({name: "" if value is None else value for name, value in result.items()})


def write_names(out: str | Path, rows: Iterable[tuple[str, str, str]]) -> Path:
    """Write which file is in which scan or was skipped, and why, beside the output: names may identify patients.

    Args:
        out: The output folder; the list is `<out>.files.csv` and readable by its owner only.
        rows: (file, scan, what became of it).
    """
    path = list_of_files(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch:
        scratch.touch(mode=0o600)
        with scratch.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([("file", "scan", "what"), *rows])
    return path
