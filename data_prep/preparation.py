"""Preparation of a data set from raw studies: in parallel over studies, resumed after a stop.

Each study becomes a part, `OUT.partial/parts/<digest of its ids and files>.npz` and `.json`. The finished parts are
streamed into `OUT`, which appears complete or not at all. Memory holds one study per process, whatever the size of the
data set.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep import rsna
from data_prep.findings import list_of_files, write_list_of_files
from data_prep.imported_brain_masks import add_brain_masks, list_brain_masks
from data_prep.output_folder import check_folders, is_up_to_date, open_partial
from data_prep.parallel import Workers, run_all
from data_prep.prepared_set import StudyArrays, write_prepared
from data_prep.privacy import SALT, public_ids, read_salt
from data_prep.raw_folder import Listing, first_names, listing_hash
from data_prep.report import build_report
from data_prep.split import read_splits, split_patients
from data_prep.study import READERS, Settings, prepare_study, read_part
from data_prep.volume import Study
from hgisam.data.labels import LABELS
from hgisam.data.prepared import BOX_COLUMNS, open_prepared
from hgisam.errors import InputError
from hgisam.runs.folders import partial_of, sha256_of

log = logging.getLogger(__name__)


def prepare(
    kind: str,
    raw: str | Path,
    out: str | Path,
    *,
    image_px: int = 128,
    field_of_view_mm: float = 200.0,
    validation_fraction: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    leave_out: Sequence[str | Path] = (),
    keep_intercept: bool = False,
    brain_masks: str | Path | None = None,
    salt: str | Path | None = None,
    splits: str | Path | None = None,
    resume: bool = True,
    workers: Workers = 1,
) -> Path:
    """Makes a prepared data set; resumes a stopped run, and returns at once if the data set is up to date.

    Args:
        kind: Name of one of `READERS`, which decides between training and test split; some patients go to validation.
        raw: Raw folder in the layout of that reader; only read.
        out: Output folder. A data set that this function made from other input or settings is replaced at the end.
        image_px: Rows and columns of the prepared slices.
        field_of_view_mm: Side of the square field of view, centred on the brain.
        validation_fraction: Fraction of the patients in the validation split.
        folds: Number of cross-validation folds.
        seed: Seed of the split.
        leave_out: Prepared data sets whose patients are excluded from this one, because they serve for evaluation.
        keep_intercept: Keep the stored intercept of RSNA images, even if it is known to be wrong.
        brain_masks: Folder of brain masks to import instead of computing them; the scans must be NIfTI files.
        salt: File of the salt for the hashed ids; default: `ids.salt` beside `out`.
        splits: CSV file with a given split, in place of one by seed; see `data_prep.split.read_splits`. Its patients
            have the ids of the prepared set.
        resume: Reuse the parts of a stopped run; otherwise make all of them again.
        workers: Processes, or the address of a Dask scheduler; the result does not depend on it.

    Returns:
        `out`.

    Raises:
        InputError: For mistakes that the user can fix: another layout, labels of other images, masks of other scans.
    """
    raw, out = Path(raw), Path(out)
    brain_masks = None if brain_masks is None else Path(brain_masks)
    salt = None if salt is None else Path(salt)
    _check_arguments(kind, image_px, field_of_view_mm, validation_fraction, folds, seed, keep_intercept, workers)
    check_folders(raw, out)
    reader = READERS[kind]
    tables, images = reader.tables(raw), reader.images(raw)
    parameters = {
        "image_px": int(image_px), "field_of_view_mm": float(field_of_view_mm),
        "validation_fraction": float(validation_fraction), "folds": int(folds), "seed": int(seed),
        "keep_intercept": keep_intercept,
    }  # fmt: skip
    imported = list_brain_masks(brain_masks)
    excluded = [open_prepared(Path(path)) for path in leave_out]
    input_hash = listing_hash(raw, images, tables)
    excluded_fingerprints = sorted(other.fingerprint for other in excluded)
    phantom = _phantom_record(raw)
    if salt is not None and not salt.is_file():
        remedy = "Give the file of an earlier preparation, or omit --salt."
        raise InputError(f"salt {salt}", "no such file", "the salt of an earlier preparation", remedy)
    salt = salt or out.parent / SALT
    if splits is not None and not Path(splits).is_file():
        raise InputError(f"splits {splits}", "no such file", "a CSV file", "Leave it out to split by seed.")
    given = "" if splits is None else sha256_of(splits)
    if splits is not None:
        read_splits(splits, [])  # a mistake is found before hours of work
    salted = "" if phantom or reader.PUBLIC else hashlib.sha256(read_salt(salt)).hexdigest()
    decisive = [kind, parameters, input_hash, code_hash(), bool(phantom), excluded_fingerprints, salted, imported]
    fingerprint = _digest([*decisive, given])
    newest = max(path.stat().st_mtime_ns for path in (*tables, *images))
    if is_up_to_date(out, fingerprint, newest):
        log.info("%s is up to date", out)
        return out
    with open_partial(partial_of(out), fingerprint, newest, resume=resume) as partial:
        if is_up_to_date(out, fingerprint, newest):  # another process made it while this one waited for the lock
            shutil.rmtree(partial)
            return out
        listing: Listing = reader.list_studies(raw, workers, str if phantom else public_ids(salt, public=reader.PUBLIC))
        if keep_intercept:
            listing.studies = [replace(study, fix_intercept=False) for study in listing.studies]
        if brain_masks is not None:
            listing.studies = add_brain_masks(listing.studies, brain_masks)
        _exclude_patients(listing, {str(patient) for other in excluded for patient in other.slices["patient"]})
        labelled = reader.ANNOTATIONS == "masks" or any((study.labels >= 0).any() for study in listing.studies)
        settings = Settings(kind, int(image_px), float(field_of_view_mm), labelled)
        parts = _make_parts(listing.studies, raw, partial, settings, workers)
        slices = _table(parts)
        numbers = (
            {} if reader.PUBLIC else {path.relative_to(raw).as_posix(): n for n, path in enumerate(images, start=1)}
        )
        report = build_report(parts, listing, len(images), numbers)
        write_list_of_files(out, parts, listing, trusted=reader.PUBLIC)
        if slices.empty:
            reasons = [f"{s['file']}: {s['reason']}" for s in report["skipped"]]
            got = f"none that can be used ({first_names(reasons, 3) or 'no labels'})"
            raise InputError(f"{kind} studies in {raw}", got, "at least one", f"See {list_of_files(out)}.")
        labels = slices.groupby("patient")[list(LABELS)].max()
        absent = 0
        if splits is None:
            assigned = split_patients(
                labels, main_split=reader.MAIN_SPLIT, validation_fraction=validation_fraction, folds=folds, seed=seed
            )
        else:
            assigned, absent = read_splits(splits, labels.index)
        slices["split"] = [assigned[patient][0] for patient in slices["patient"]]
        slices["fold"] = [assigned[patient][1] for patient in slices["patient"]]
        info = {
            "name": kind, "source": "phantom" if phantom else reader.NAME,
            "licence": phantom.get("licence", "synthetic studies, no patient data") if phantom else reader.LICENCE,
            "parameters": parameters, "input_hash": input_hash, "fingerprint": fingerprint,
            "absent_patients": absent, "report": report,
        }  # fmt: skip
        write_prepared(
            out, slices=slices, blocks=_blocks(parts, image_px), size_px=image_px,
            with_mask=reader.ANNOTATIONS == "masks", info=info,
            boxes=_boxes(parts) if reader.ANNOTATIONS == "boxes" else None,
        )  # fmt: skip
        shutil.rmtree(partial)
    return out


def _check_arguments(
    kind: str, image_px: int, field_of_view_mm: float, validation_fraction: float, folds: int, seed: int,
    keep_intercept: bool, workers: Workers,
) -> None:  # fmt: skip
    for name, value, fits, expected in (
        ("kind", kind, kind in READERS, " or ".join(READERS)),
        ("image_px", image_px, 8 <= image_px <= 4096, "8 to 4096"),
        ("field_of_view_mm", field_of_view_mm, 10 <= field_of_view_mm <= 1000, "10 to 1000 mm"),
        ("validation_fraction", validation_fraction, 0 < validation_fraction < 1, "more than 0 and less than 1"),
        ("folds", folds, folds >= 2, "at least 2"),
        ("seed", seed, seed >= 0, "0 or more"),
        (
            "keep_intercept",
            f"{keep_intercept} for {kind}",
            kind == rsna.NAME or not keep_intercept,
            f"False, or {rsna.NAME}",
        ),
        ("workers", workers, isinstance(workers, str) or workers >= 1, "at least 1"),
    ):
        if not fits:
            raise InputError(name, value, expected, "Change it.")


def _phantom_record(raw: Path) -> dict[str, Any]:
    """Content of the phantom's `phantom.json`; empty for real studies."""
    path = raw / "phantom.json"
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        got, expected = f"unreadable ({error})", "the record of a phantom"
        raise InputError(str(path), got, expected, "Write the phantom again.") from None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def code_hash() -> str:
    """SHA-256 of the modules that determine the content of a part."""
    return _digest([path.read_bytes().hex() for path in sorted(Path(__file__).parent.glob("*.py"))])


def _exclude_patients(listing: Listing, patients: set[str]) -> None:
    """Removes the studies of some patients from a listing, and counts them for the report."""
    excluded = [study for study in listing.studies if study.patient in patients]
    listing.studies = [study for study in listing.studies if study.patient not in patients]
    listing.counts["left_out"] = {"patients": len({study.patient for study in excluded}), "studies": len(excluded)}


def _make_parts(
    studies: Sequence[Study], raw: Path, partial: Path, settings: Settings, workers: Workers
) -> list[tuple[Path, dict[str, Any]]]:
    """Makes the missing parts.

    Returns:
        (stem, content of its JSON file) of each part, in the order of the studies.
    """
    stems = [partial / "parts" / _digest([study.patient, study.study, study.files])[:32] for study in studies]
    missing = [
        (raw, study, stem, settings)
        for study, stem in zip(studies, stems, strict=True)
        if not stem.with_suffix(".json").is_file()
    ]
    run_all(prepare_study, missing, workers, settings.kind)
    return [(stem, json.loads(stem.with_suffix(".json").read_text())) for stem in stems]


def _table(parts: Sequence[tuple[Path, dict[str, Any]]]) -> pd.DataFrame:
    """One row per slice, joined over the parts; empty if no part has slices."""
    frames = [pd.DataFrame(content["rows"]) for _, content in parts if content["rows"].get("patient")]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _blocks(parts: Sequence[tuple[Path, dict[str, Any]]], px: int) -> Iterator[StudyArrays]:
    """HU, brain mask and mask [slice, px, px] of each part that has slices."""
    for stem, content in parts:
        if content["rows"].get("patient"):
            arrays = read_part(stem.with_suffix(".npz"), px)
            yield arrays["hu"], arrays["brain"], arrays.get("mask")


def _boxes(parts: Sequence[tuple[Path, dict[str, Any]]]) -> pd.DataFrame:
    """Boxes of all parts, one row per box; column row is the slice's row in the data set."""
    counts = [len(content["rows"].get("patient", ())) for _, content in parts]
    starts = np.cumsum([0, *counts])
    found = [
        [start + slice_, *rest]
        for start, (_, content) in zip(starts[:-1], parts, strict=True)
        for slice_, *rest in content.get("boxes", ())
    ]
    return pd.DataFrame(found, columns=list(BOX_COLUMNS)).astype(BOX_COLUMNS)
