"""A phantom cohort on disk: patients in parallel, resumed after a stop."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from data_prep.parallel import run_all
from data_prep.phantom.acquisition import VISIBLE_MM2
from data_prep.phantom.layouts import MAX_SLICES, Tables, write_cq500, write_ct_ich, write_rsna
from data_prep.phantom.patient import PhantomPatient, make_patient
from data_prep.phantom.scanner import Cohort
from hgisam.errors import InputError

Layout = Literal["rsna", "ct-ich", "cq500"]
COHORT_OF: dict[Layout, Cohort] = {"rsna": "training", "ct-ich": "evaluation", "cq500": "evaluation"}
WRITERS: dict[Layout, Callable[[PhantomPatient, int, int, Path], Tables]] = {
    "rsna": write_rsna, "ct-ich": write_ct_ich, "cq500": write_cq500
}  # fmt: skip
GENERATOR_VERSION = 2
MAX_PATIENTS = 16**9 // MAX_SLICES
STATEMENT = (
    "Synthetic head CT. No patient, no scanner: every image, mask and label was computed. Not for clinical use. "
    "Anatomy derived from the ICBM 2009a nonlinear symmetric template."
)
LICENCE = (
    "Images: CC0-1.0. ICBM 2009a template: Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, "
    "Montreal Neurological Institute, McGill University; free to use, copy, modify and distribute with this notice."
)
log = logging.getLogger(__name__)


def write_phantom(
    out: str | Path, *, layout: Layout, patients: int, seed: int, jobs: int = 1, matrix: int = 256
) -> Path:
    """Writes a phantom cohort in the layout of RSNA 2019, CT-ICH or CQ500; the bytes do not depend on `jobs`.

    Patients are written to `OUT.partial`, each complete or absent, and the folder is renamed at the end. A second call
    with the same arguments resumes a stopped one, or returns at once if the cohort is complete.

    Args:
        out: Output folder.
        layout: "rsna" is the weakly labelled training cohort of many scanners, "ct-ich" the evaluation cohort of one
            other scanner with masks, "cq500" that of the same scanner with boxes.
        patients: Number of patients.
        seed: Seed of the cohort; training and evaluation cohorts of one seed have different patients.
        jobs: Number of processes.
        matrix: Rows and columns of a slice.

    Returns:
        `out`.

    Raises:
        InputError: If an argument is out of range, or the folder holds a cohort made with other arguments.
    """
    _check_arguments(layout, patients, seed, jobs, matrix)
    parameters = {"layout": layout, "patients": patients, "seed": seed, "matrix": matrix}
    parameters["generator_version"] = GENERATOR_VERSION
    out = Path(out)
    if out.exists():
        _check_same(out, out / "phantom.json", parameters)
        log.info("phantom cohort %s is complete", out)
        return out
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        _check_same(partial, partial / "parameters.json", parameters)
    (partial / "rows").mkdir(parents=True, exist_ok=True)
    (partial / "parameters.json").write_text(json.dumps(parameters))
    shutil.rmtree(partial / "work", ignore_errors=True)
    missing = [index for index in range(patients) if not _rows_of(partial, index).exists()]
    if len(missing) < patients:
        log.info("phantom cohort %s: resuming, %d of %d patients are complete", out, patients - len(missing), patients)
    tasks = [(partial, layout, seed, index, matrix) for index in missing]
    run_all(_write_patient, tasks, jobs, f"phantom {layout}")
    _finish(partial, layout, parameters)
    partial.rename(out)
    return out


def _check_arguments(layout: str, patients: int, seed: int, jobs: int, matrix: int) -> None:
    """Refuses arguments that are out of range."""
    if layout not in COHORT_OF:
        raise InputError("phantom layout", layout, " or ".join(COHORT_OF), "Choose one of them.")
    for name, value, low, high in (
        ("phantom patients", patients, 1, MAX_PATIENTS),
        ("phantom seed", seed, 0, 2**63),
        ("phantom jobs", jobs, 1, 1024),
        ("phantom matrix", matrix, 32, 1024),
    ):
        if not low <= value <= high:
            raise InputError(name, value, f"{low} to {high}", "Give a number in that range.")


def _check_same(folder: Path, record: Path, parameters: dict[str, Any]) -> None:
    """Refuses a folder whose record has other arguments, or none."""
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        found = None
    found = {key: found.get(key) for key in parameters} if isinstance(found, dict) else "no phantom cohort"
    if found != parameters:
        raise InputError(f"phantom folder {folder}", found, str(parameters), "Choose another folder.")


def _rows_of(partial: Path, index: int) -> Path:
    """Folder with a patient's rows of the CSV files; it exists once the patient is complete."""
    return partial / "rows" / f"{index:07d}"


def _write_patient(partial: Path, layout: Layout, seed: int, index: int, matrix: int) -> None:
    """Writes one patient to a scratch folder and moves its files; its rows move last and mark it as complete."""
    patient = make_patient(seed, index, COHORT_OF[layout], matrix=matrix)
    work = partial / "work" / str(index)
    tables = WRITERS[layout](patient, seed, index, work)
    for file in sorted(path for path in work.rglob("*") if path.is_file()):
        target = partial / file.relative_to(work)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    rows = work / "rows"
    rows.mkdir()
    for name, table in tables.items():
        table.to_csv(rows / name, index=False)
    rows.replace(_rows_of(partial, index))
    shutil.rmtree(work)


def _finish(partial: Path, layout: Layout, parameters: dict[str, Any]) -> None:
    """Joins the rows of all patients into the CSV files of the layout, and writes `phantom.json`."""
    folders = sorted((partial / "rows").iterdir())
    for name in sorted(file.name for file in folders[0].iterdir()):
        table = pd.concat([pd.read_csv(folder / name) for folder in folders], ignore_index=True)
        if layout == "rsna":  # sorted by image id as in the original, not by patient
            image = table["ID"].str.slice(0, 12)
            table = table.iloc[np.argsort(image.to_numpy(dtype=str), kind="stable")]
        table.to_csv(partial / name, index=False)
    record = parameters | {
        "cohort": COHORT_OF[layout],
        "synthetic": True,
        "statement": STATEMENT,
        "licence": LICENCE,
        "visible_mm2": VISIBLE_MM2,
        "label_rule": f"A slice is positive for a type whose mask covers at least {VISIBLE_MM2:g} mm2 of it.",
    }
    (partial / "phantom.json").write_text(json.dumps(record, indent=2) + "\n")
    for scratch in ("rows", "work"):
        shutil.rmtree(partial / scratch, ignore_errors=True)
    (partial / "parameters.json").unlink()
