"""Writes a whole phantom cohort, patient by patient; what was begun is continued."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from data_prep.phantom.acquire import VISIBLE_MM2
from data_prep.phantom.layouts import MOST_SLICES, Tables, write_cq500, write_ct_ich, write_rsna
from data_prep.phantom.patient import PhantomPatient, make_patient
from data_prep.phantom.scanner import Cohort
from hgisam.errors import InputError

Layout = Literal["rsna", "ct-ich", "cq500"]
COHORT_OF: dict[Layout, Cohort] = {"rsna": "training", "ct-ich": "evaluation", "cq500": "evaluation"}
WRITERS: dict[Layout, Callable[[PhantomPatient, int, int, Path], Tables]] = {
    "rsna": write_rsna, "ct-ich": write_ct_ich, "cq500": write_cq500
}  # fmt: skip
GENERATOR_VERSION = 1
MOST_PATIENTS = 16**9 // MOST_SLICES
STATEMENT = (
    "Synthetic head CT. No patient, no scanner: every image, mask and label was computed. Not for clinical use. "
    "Anatomy derived from the ICBM 2009a nonlinear symmetric template."
)
LICENCE = (
    "Images: CC0-1.0. ICBM 2009a template: Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, "
    "Montreal Neurological Institute, McGill University; free to use, copy, modify and distribute with this notice."
)
log = logging.getLogger(__name__)


def write_phantom(out: Path, *, layout: Layout, patients: int, seed: int, jobs: int = 1, matrix: int = 256) -> Path:
    """Writes a cohort as RSNA, CT-ICH or CQ500 is laid out; the same bytes whatever `jobs` is.

    Written as `OUT.partial`, in which each patient is complete or absent, and renamed at the end; called again with the
    same arguments it goes on where it stopped, or returns at once if all is there.

    Args:
        out: Folder to make.
        layout: "rsna" is the weakly labelled training cohort of many scanners, "ct-ich" the evaluation cohort of one,
            with masks, "cq500" the same with boxes.
        patients: How many.
        seed: Of the cohort; those to train and to evaluate on hold different patients.
        jobs: Processes.
        matrix: Rows and columns of a slice.

    Raises:
        InputError: If an argument is out of range, or the folder holds a cohort made with other arguments.
    """
    _check(layout, patients, seed, jobs, matrix)
    parameters = {"layout": layout, "patients": patients, "seed": seed, "matrix": matrix}
    parameters["generator_version"] = GENERATOR_VERSION
    out = Path(out)
    if out.exists():
        _check_same(out, out / "phantom.json", parameters)
        log.info("phantom cohort %s is complete already", out)
        return out
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        _check_same(partial, partial / "parameters.json", parameters)
    (partial / "rows").mkdir(parents=True, exist_ok=True)
    (partial / "parameters.json").write_text(json.dumps(parameters))
    shutil.rmtree(partial / "work", ignore_errors=True)
    missing = [index for index in range(patients) if not _rows_of(partial, index).exists()]
    if len(missing) < patients:
        log.info("phantom cohort %s: %d of %d patients are there, going on", out, patients - len(missing), patients)
    tasks = (delayed(_write_patient)(partial, layout, seed, index, matrix) for index in missing)
    done = Parallel(n_jobs=min(jobs, max(len(missing), 1)), return_as="generator_unordered")(tasks)
    for _ in tqdm(done, total=len(missing), desc=f"phantom {layout}", unit="patient"):
        pass
    _finish(partial, layout, parameters)
    partial.rename(out)
    return out


def _check(layout: str, patients: int, seed: int, jobs: int, matrix: int) -> None:
    if layout not in COHORT_OF:
        raise InputError("phantom layout", layout, " or ".join(COHORT_OF), "Choose one of them.")
    for what, value, low, high in (
        ("phantom patients", patients, 1, MOST_PATIENTS),
        ("phantom seed", seed, 0, 2**63),
        ("phantom jobs", jobs, 1, 1024),
        ("phantom matrix", matrix, 32, 1024),
    ):
        if not low <= value <= high:
            raise InputError(what, value, f"{low} to {high}", "Give a number in that range.")


def _check_same(folder: Path, record: Path, parameters: dict[str, Any]) -> None:
    """Refuses a folder that was not made with the same arguments."""
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        found = None
    found = {key: found.get(key) for key in parameters} if isinstance(found, dict) else "no phantom cohort"
    if found != parameters:
        raise InputError(f"phantom folder {folder}", found, str(parameters), "Choose another folder.")


def _rows_of(partial: Path, index: int) -> Path:
    return partial / "rows" / f"{index:07d}"


def _write_patient(partial: Path, layout: Layout, seed: int, index: int, matrix: int) -> None:
    """Writes one patient beside the others, then moves its files in; its rows come last and mean: complete."""
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
    """Joins the patients' rows into the layout's csv files and writes `phantom.json`."""
    folders = sorted((partial / "rows").iterdir())
    for name in sorted(file.name for file in folders[0].iterdir()):
        table = pd.concat([pd.read_csv(folder / name) for folder in folders], ignore_index=True)
        if layout == "rsna":  # images in the order of their ids, as in the original, not patient by patient
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
    for leftover in ("rows", "work"):
        shutil.rmtree(partial / leftover, ignore_errors=True)
    (partial / "parameters.json").unlink()
