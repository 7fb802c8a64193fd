"""Any folder of scans: DICOM series and NIfTI files at any depth, with or without a `labels.csv` in it.

`labels.csv` has one row per slice: `file` (a path relative to the folder), `any` (0 or 1) and, where annotated, the
subtypes; `slice` counts from 1 the slices of a NIfTI file and the frames of a multi-frame DICOM file, `patient` is the
patient's id, which goes before that of a header. Without it all slices stay unlabelled: such a data set gets maps, but
cannot be used for training or evaluation.
"""

from pathlib import Path

import numpy as np

from data_prep.dicom import find_series, read_series, volumes_in_series
from data_prep.file_kind import is_nifti, voxel_file
from data_prep.identity import known_id
from data_prep.nifti import open_image, read_scan, shape_of
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.raw_folder import FIX_CSV, Listing, contents, entries_below, first_names, read_csv
from data_prep.volume import Labels, Study, UnusableError, Volume
from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.errors import InputError

NAME = "folder"
LICENCE = "as the owner of the scans says"
ANNOTATIONS, MAIN_SPLIT, PUBLIC = None, "test", False
TABLE = "labels.csv"
NOT_ANNOTATED = [-1] * len(LABELS)
Key = tuple[str, str]  # file, and slice number in a NIfTI file, else ""


def tables(raw: str | Path) -> list[Path]:
    """`labels.csv`, if it exists.

    Raises:
        InputError: If it is not a file.
    """
    table = Path(raw, TABLE)
    if table.exists() and not table.is_file():
        raise InputError(str(table), "no file", "a CSV file of labels", "Rename it.")
    return [table] if table.is_file() else []


def images(raw: str | Path) -> list[Path]:
    """All files except `labels.csv` and hidden ones, sorted; links to folders are not followed.

    Raises:
        InputError: If there is none, or a folder can't be listed.
    """
    raw = Path(raw)
    found = [path for path in _entries(raw) if path.is_file()]
    if not found:
        raise InputError(f"folder {raw}", contents(raw), "DICOM or NIfTI files", "Give the folder of the scans.")
    return found


def _entries(raw: Path) -> list[Path]:
    """As `images`, with entries that are no files: broken links, and pipes, on which a reader would block."""
    return [path for path in entries_below(raw) if path != raw / TABLE]


def list_studies(raw: str | Path, workers: Workers, public_id: PublicId) -> Listing:
    """Groups DICOM images into series, makes each NIfTI file a study, and adds the labels of the slices.

    Raises:
        InputError: If `labels.csv` is invalid, or none of its rows belongs to a file.
    """
    raw = Path(raw)
    files = [path.relative_to(raw).as_posix() for path in images(raw)]
    labels, patients = _read_labels(raw / TABLE) if tables(raw) else ({}, {})
    listing, used = Listing([]), set[Key]()

    def labels_of(keys: list[Key]) -> Labels:
        used.update(labels.keys() & set(keys))
        return np.array([labels.get(key, NOT_ANNOTATED) for key in keys], np.int8)

    taken = set()
    for file in filter(lambda file: is_nifti(raw / file), files):
        taken |= {file, *([beside.relative_to(raw).as_posix()] if (beside := voxel_file(raw / file)) else [])}
        try:
            with open_image(raw / file) as image:
                keys = [(file, str(number)) for number in range(1, shape_of(image)[2] + 1)]
        except UnusableError as error:
            listing.skipped.append((file, str(error)))
            continue
        patient, known = public_id(patients.get(file, file)), file in patients
        listing.studies.append(Study(patient, public_id(file), (file,), labels_of(keys), patient_known=known))
    found, skipped = find_series(raw, sorted(set(files) - taken), workers, public_id, patients=patients)
    listing.skipped += skipped
    for series in found:
        numbers = [str(frame + 1) if series.multiframe else "" for frame in series.frames]
        rows = labels_of(list(zip(series.files, numbers, strict=True)))
        ids = series.patient, series.study
        listing.studies.append(
            Study(*ids, series.files, rows, frames=series.frames, patient_known=series.patient_known)
        )  # fmt: skip
    listing.counts |= volumes_in_series(found)
    if labels and not used:
        raise InputError(
            TABLE, f"labels of {first_names(sorted({file for file, _ in labels}), 2)}", "labels of files in the folder",
            "Give paths relative to the folder, slice numbers for a NIfTI file and none for a DICOM image.",
        )  # fmt: skip
    listing.without_image = [", slice ".join(filter(None, key)) for key in sorted(labels.keys() - used)]
    listing.counts["labels_without_image"] = {"count": len(listing.without_image)}
    listing.counts["no_files"] = {"count": len(_entries(raw)) - len(files)}
    return listing


def _read_labels(path: Path) -> tuple[dict[Key, list[int]], dict[str, str]]:
    """Reads `labels.csv`.

    Returns:
        (file, slice) → labels in the order of `LABELS`, -1 for subtypes that are not annotated; file → patient.

    Raises:
        InputError: For values other than 0 and 1, or labels of one slice that contradict each other.
    """
    table = read_csv(path, ["file", "any"], optional=["slice", "patient", *SUBTYPES])
    table = table.apply(lambda column: column.str.strip())
    if "slice" in table and not (fits := table["slice"].str.fullmatch(r"[1-9][0-9]*|")).all():
        got = f"{table['slice'][~fits].iloc[0]!r} in row {int(np.flatnonzero(~fits)[0]) + 2}"
        raise InputError(f"{path.name} column slice", got, "1, 2, 3 …, or empty for a DICOM image", FIX_CSV)
    subtypes = [name for name in SUBTYPES if name in table]
    for name in ("any", *subtypes):
        if not (fits := table[name].isin(["0", "1"])).all():
            got = f"{table[name][~fits].iloc[0]!r} in row {int(np.flatnonzero(~fits)[0]) + 2}"
            raise InputError(f"{path.name} column {name}", got, "0 or 1", FIX_CSV)
    if ((table["any"] == "0") & (table[subtypes] == "1").any(axis=1)).any():
        raise InputError(path.name, "any = 0 with a subtype = 1", "any = 1 where a subtype is 1", FIX_CSV)
    labels: dict[Key, list[int]] = {}
    for row in table.to_dict("records"):
        default = -1 if row["any"] == "1" else 0
        values = [int(row["any"]), *(int(row.get(name, default)) for name in SUBTYPES)]
        if labels.setdefault((row["file"], row.get("slice", "")), values) != values:
            raise InputError(path.name, "different labels for the same slice", "one row per slice", FIX_CSV)
    patients: dict[str, str] = {}
    for file, patient in zip(table["file"], table.get("patient", ()), strict=False):
        if (patient := known_id(patient)) and patients.setdefault(file, patient) != patient:
            raise InputError(path.name, f"two patients for {file}", "one patient per file", FIX_CSV)
    return labels, patients


def read_study(raw: str | Path, study: Study) -> Volume:
    """Reads a series or a NIfTI file; see `read_series` and `read_scan`."""
    if is_nifti(Path(raw, study.files[0])):
        return read_scan(raw, study)
    return read_series(raw, study)
