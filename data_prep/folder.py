"""Any folder of scans: DICOM series and NIfTI files at any depth, with or without a `labels.csv` in it.

`labels.csv` has a row a slice: `file` (a path relative to the folder), `any` (0 or 1), and where they are known the
types of bleeding; `slice` counts the slices of a NIfTI file from 1, `patient` says whose it is. Without the csv all
slices are kept, and none is labelled: such a set can be mapped, not trained or measured on.
"""

from pathlib import Path

import numpy as np

from data_prep.dicom import find_series, read_series
from data_prep.inputs import Listing, contents, entries_below, read_csv, some
from data_prep.nifti import ENDINGS, open_image, read_scan, shape_of
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.volume import Study, UnusableError, Volume
from hgisam.data.prepared import LABELS, SUBTYPES
from hgisam.errors import InputError

NAME = "folder"
LICENCE = "as the owner of the scans says"
TRUTH, REST, PUBLIC = None, "test", False
TABLE = "labels.csv"
NOT_SAID = [-1] * len(LABELS)
Key = tuple[str, str]  # a file, and the number of the slice where it has several


def tables(raw: Path) -> list[Path]:
    """`labels.csv`, if there is one.

    Raises:
        InputError: If something else has its name.
    """
    if (raw / TABLE).exists() and not (raw / TABLE).is_file():
        raise InputError(str(raw / TABLE), "no file", "a csv of labels", "Move it away.")
    return [raw / TABLE] if (raw / TABLE).is_file() else []


def images(raw: Path) -> list[Path]:
    """All files but the csv and hidden ones, sorted; links to folders are not followed.

    Raises:
        InputError: If there is none, or a folder can't be listed.
    """
    found = [path for path in _entries(raw) if path.is_file()]
    if not found:
        raise InputError(f"folder {raw}", contents(raw), "DICOM or NIfTI files", "Give the folder of the scans.")
    return found


def _entries(raw: Path) -> list[Path]:
    """The same with what is no file: a broken link, a pipe, which would make a reader wait for ever."""
    return [path for path in entries_below(raw) if path != raw / TABLE]


def list_studies(raw: Path, workers: Workers, public_id: PublicId) -> Listing:
    """Groups DICOM images into series, takes each NIfTI file for a study, and gives the slices their labels.

    Raises:
        InputError: If the csv is broken, or none of its rows belongs to a file.
    """
    files = [path.relative_to(raw).as_posix() for path in images(raw)]
    labels, patients = _read_labels(raw / TABLE) if tables(raw) else ({}, {})
    listing, used = Listing([]), set[Key]()

    def add(patient: str, study: str, members: tuple[str, ...], keys: list[Key]) -> None:
        used.update(labels.keys() & set(keys))
        rows = np.array([labels.get(key, NOT_SAID) for key in keys], np.int8)
        listing.studies.append(Study(patient, study, members, rows))

    volumes = [file for file in files if file.endswith(ENDINGS)]
    for file in volumes:
        try:
            count = shape_of(open_image(raw / file))[2]
        except UnusableError as error:
            listing.skipped.append((file, str(error)))
            continue
        keys = [(file, str(number)) for number in range(1, count + 1)]
        add(public_id(patients.get(file, file)), public_id(file), (file,), keys)
    others = sorted(set(files) - set(volumes))
    found, skipped = find_series(raw, others, workers, public_id)
    listing.skipped += skipped
    for patient, study, members, _ in found:
        add(patient, study, members, [(member, "") for member in members])
    if labels and not used:
        raise InputError(
            TABLE, f"labels of {some(sorted({file for file, _ in labels}), 2)}", "labels of files in the folder",
            "Name files as they lie under the folder; give a NIfTI file its slices, and a DICOM image none.",
        )  # fmt: skip
    listing.counts["labels_without_image"] = {"count": len(labels.keys() - used)}
    listing.counts["no_files"] = {"count": len(_entries(raw)) - len(files)}
    return listing


def _read_labels(path: Path) -> tuple[dict[Key, list[int]], dict[str, str]]:
    """The csv.

    Returns:
        (file, slice) → labels in the order of `LABELS`, where types that nobody said are -1; file → patient.

    Raises:
        InputError: For values outside 0 and 1, or labels of one slice that contradict each other.
    """
    table = read_csv(path, ["file", "any"], optional=["slice", "patient", *SUBTYPES])
    table = table.apply(lambda column: column.str.strip())
    if "slice" in table and not (fits := table["slice"].str.fullmatch(r"[1-9][0-9]*|")).all():
        got = f"{table['slice'][~fits].iloc[0]!r} in row {int(np.flatnonzero(~fits)[0]) + 2}"
        raise InputError(f"{path.name} column slice", got, "1, 2, 3 …, or nothing for a DICOM image", "Mend the csv.")
    typed = [name for name in SUBTYPES if name in table]
    for name in ("any", *typed):
        if not (fits := table[name].isin(["0", "1"])).all():
            got = f"{table[name][~fits].iloc[0]!r} in row {int(np.flatnonzero(~fits)[0]) + 2}"
            raise InputError(f"{path.name} column {name}", got, "0 or 1", "Mend the csv.")
    if ((table["any"] == "0") & (table[typed] == "1").any(axis=1)).any():
        raise InputError(path.name, "any = 0 with a type = 1", "any = 1 where a type is 1", "Mend the csv.")
    labels: dict[Key, list[int]] = {}
    for row in table.to_dict("records"):
        rest = -1 if row["any"] == "1" else 0
        said = [int(row["any"]), *(int(row.get(name, rest)) for name in SUBTYPES)]
        if labels.setdefault((row["file"], row.get("slice", "")), said) != said:
            raise InputError(path.name, "different labels for the same slice", "one row a slice", "Mend the csv.")
    whose: dict[str, str] = {}
    for file, patient in zip(table["file"], table.get("patient", ()), strict=False):
        if patient and whose.setdefault(file, patient) != patient:
            raise InputError(path.name, f"two patients for {file}", "one patient a file", "Mend the csv.")
    return labels, whose


def read_study(raw: Path, study: Study) -> Volume:
    """Reads a series or a NIfTI file; see `read_series` and `read_scan`."""
    if study.files[0].endswith(ENDINGS):
        return read_scan(raw, study)
    return read_series(raw, study)
