"""Raw studies → a prepared data set: study by study, in parallel, going on where it was stopped.

Each study becomes a part, `OUT.partial/parts/<digest of its ids and files>.npz` and `.json`; when all are there they
are streamed into `OUT`, which appears whole or not at all. Memory holds one study a process, whatever the size of the
set.
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
from data_prep.imported_brains import brain_files, with_brains
from data_prep.inputs import Listing, listing_hash, some
from data_prep.parallel import Workers, run_all
from data_prep.places import check_places, is_done, open_partial
from data_prep.privacy import SALT, public_ids, read_salt
from data_prep.report import report_on
from data_prep.split import split_patients
from data_prep.study import READERS, Settings, prepare_study, read_part
from data_prep.volume import Study
from hgisam.data.prepared import BOX_COLUMNS, LABELS, StudyArrays, open_prepared, write_prepared
from hgisam.errors import InputError
from hgisam.runs.folders import partial_of

log = logging.getLogger(__name__)


def prepare(
    kind: str,
    raw: Path,
    out: Path,
    *,
    image_px: int = 128,
    field_of_view_mm: float = 200.0,
    validation_fraction: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    leave_out: Sequence[Path] = (),
    keep_intercept: bool = False,
    brain_masks: Path | None = None,
    salt: Path | None = None,
    resume: bool = True,
    workers: Workers = 1,
) -> Path:
    """Makes a prepared data set, goes on with one that was stopped, or finds it done.

    Args:
        kind: Name of one of `READERS`, which says whether the patients train or test; some of them validate.
        raw: Folder in that layout; it is only read.
        out: Folder to make. One that this function made from other input or settings is replaced at the end.
        image_px: Side of the square slices.
        field_of_view_mm: Side of the field, centred on the brain.
        validation_fraction: Share of the patients that validate.
        folds: Cross-validation folds.
        seed: Of the split.
        leave_out: Prepared sets whose patients must not be in this one, because they are evaluated on.
        keep_intercept: Take the intercept of RSNA images as it is stored, also where it is known to be wrong.
        brain_masks: Folder of brain masks of the scans, which are NIfTI files, to import instead of finding brains.
        salt: File of the secret that hashes of ids depend on; `ids.salt` beside `out` if not said.
        resume: Go on with the parts that a stopped run left; else make all of them again.
        workers: Processes, or the address of a Dask scheduler; the result does not depend on it.

    Returns:
        `out`.

    Raises:
        InputError: For whatever the user can mend: layout, labels that fit no image, masks that do not fit their scans.
    """
    raw, out = Path(raw), Path(out)
    _check_arguments(kind, image_px, field_of_view_mm, validation_fraction, folds, seed, keep_intercept, workers)
    check_places(raw, out)
    reader = READERS[kind]
    tables, images = reader.tables(raw), reader.images(raw)
    parameters = {
        "image_px": int(image_px), "field_of_view_mm": float(field_of_view_mm),
        "validation_fraction": float(validation_fraction), "folds": int(folds), "seed": int(seed),
        "keep_intercept": keep_intercept,
    }  # fmt: skip
    brains = brain_files(brain_masks)
    others = [open_prepared(Path(path)) for path in leave_out]
    input_hash = listing_hash(raw, images, tables)
    away = sorted(other.fingerprint for other in others)
    phantom = _phantom(raw)
    if salt is not None and not salt.is_file():
        remedy = "Name the file that an earlier preparation made, or leave --salt out."
        raise InputError(f"salt {salt}", "no such file", "the secret of an earlier preparation", remedy)
    salt = salt or out.parent / SALT
    salted = "" if phantom or reader.PUBLIC else hashlib.sha256(read_salt(salt)).hexdigest()
    fingerprint = _digest([kind, parameters, input_hash, code_hash(), bool(phantom), away, salted, brains])
    newest = max(path.stat().st_mtime_ns for path in (*tables, *images))
    if is_done(out, fingerprint, newest):
        log.info("%s is done already", out)
        return out
    with open_partial(partial_of(out), fingerprint, newest, resume=resume) as partial:
        if is_done(out, fingerprint, newest):  # by a process that was waited for
            shutil.rmtree(partial)
            return out
        listing: Listing = reader.list_studies(raw, workers, str if phantom else public_ids(salt, public=reader.PUBLIC))
        if keep_intercept:
            listing.studies = [replace(study, mend_intercept=False) for study in listing.studies]
        if brain_masks is not None:
            listing.studies = with_brains(listing.studies, brain_masks)
        _leave_out(listing, {str(patient) for other in others for patient in other.slices["patient"]})
        labelled = reader.TRUTH == "masks" or any((study.labels >= 0).any() for study in listing.studies)
        settings = Settings(kind, int(image_px), float(field_of_view_mm), labelled)
        parts = _make_parts(listing.studies, raw, partial, settings, workers)
        slices = _table(parts)
        numbers = (
            {} if reader.PUBLIC else {path.relative_to(raw).as_posix(): n for n, path in enumerate(images, start=1)}
        )
        report = report_on(parts, listing, len(images), numbers)
        if slices.empty:
            reasons = [f"{s['file']}: {s['reason']}" for s in report["skipped"]]
            got = f"none that can be used ({some(reasons, 3) or 'no labels'})"
            raise InputError(f"{kind} studies in {raw}", got, "at least one", "Look at the files.")
        labels = slices.groupby("patient")[list(LABELS)].max()
        dealt = split_patients(
            labels, rest=reader.REST, validation_fraction=validation_fraction, folds=folds, seed=seed
        )
        slices["split"] = [dealt[patient][0] for patient in slices["patient"]]
        slices["fold"] = [dealt[patient][1] for patient in slices["patient"]]
        info = {
            "name": kind, "source": "phantom" if phantom else reader.NAME,
            "licence": phantom.get("licence", "synthetic studies, no patient data") if phantom else reader.LICENCE,
            "parameters": parameters, "input_hash": input_hash, "fingerprint": fingerprint,
            "report": report,
        }  # fmt: skip
        write_prepared(
            out, slices=slices, blocks=_blocks(parts, image_px), size_px=image_px, with_mask=reader.TRUTH == "masks",
            info=info, boxes=_boxes(parts) if reader.TRUTH == "boxes" else None,
        )  # fmt: skip
        shutil.rmtree(partial)
    return out


def summary(out: Path) -> str:
    """One line: what was read, skipped and written."""
    meta = json.loads((out / "dataset.json").read_text())
    counts, report = meta["counts"], meta["report"]
    told = {
        "patients left out": report["left_out"]["patients"],
        "images at a place that another has": report["duplicates"],
        "labels without an image": report.get("labels_without_image", {}).get("count", 0),
    }
    return (
        f"{meta['name']}: {report['files']} files, {report['studies']} studies read, {len(report['skipped'])} skipped"
        f"{''.join(f', {count} {what}' for what, count in told.items() if count)}; "
        f"{counts['slices']} slices of {counts['patients']} patients written to {out}"
    )


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


def _phantom(raw: Path) -> dict[str, Any]:
    """What the phantom says about itself; empty for real studies."""
    path = raw / "phantom.json"
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise InputError(
            str(path), f"unreadable ({error})", "the phantom's own words", "Write the phantom again."
        ) from None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def code_hash() -> str:
    """SHA-256 of the modules that decide what a part holds."""
    return _digest([path.read_bytes().hex() for path in sorted(Path(__file__).parent.glob("*.py"))])


def _leave_out(listing: Listing, patients: set[str]) -> None:
    """Takes the studies of some patients off the list, and counts them for the report."""
    mine = [study for study in listing.studies if study.patient in patients]
    listing.studies = [study for study in listing.studies if study.patient not in patients]
    listing.counts["left_out"] = {"patients": len({study.patient for study in mine}), "studies": len(mine)}


def _make_parts(
    studies: Sequence[Study], raw: Path, partial: Path, settings: Settings, workers: Workers
) -> list[tuple[Path, dict[str, Any]]]:
    """Makes the parts that are not there yet.

    Returns:
        (stem, content of its json) of each study, in order.
    """
    stems = [partial / "parts" / _digest([study.patient, study.study, study.files])[:32] for study in studies]
    todo = [
        (raw, study, stem, settings)
        for study, stem in zip(studies, stems, strict=True)
        if not stem.with_suffix(".json").is_file()
    ]
    run_all(prepare_study, todo, workers, settings.kind)
    return [(stem, json.loads(stem.with_suffix(".json").read_text())) for stem in stems]


def _table(parts: Sequence[tuple[Path, dict[str, Any]]]) -> pd.DataFrame:
    frames = [pd.DataFrame(content["rows"]) for _, content in parts if content["rows"].get("patient")]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _blocks(parts: Sequence[tuple[Path, dict[str, Any]]], px: int) -> Iterator[StudyArrays]:
    for stem, content in parts:
        if content["rows"].get("patient"):
            arrays = read_part(stem.with_suffix(".npz"), px)
            yield arrays["hu"], arrays["brain"], arrays.get("mask")


def _boxes(parts: Sequence[tuple[Path, dict[str, Any]]]) -> pd.DataFrame:
    """The boxes of all studies, with the row of each one's slice in the whole set."""
    counts = [len(content["rows"].get("patient", ())) for _, content in parts]
    starts = np.cumsum([0, *counts])
    found = [
        [start + slice_, *rest]
        for start, (_, content) in zip(starts[:-1], parts, strict=True)
        for slice_, *rest in content.get("boxes", ())
    ]
    return pd.DataFrame(found, columns=list(BOX_COLUMNS)).astype(BOX_COLUMNS)
