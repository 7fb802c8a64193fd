"""The PhysioNet CT-ICH layout: `ct_scans/049.nii`, `masks/049.nii` and `hemorrhage_diagnosis_raw_ct.csv`.

Source: Hssayeni et al. 2020, Data 5(1):14, doi 10.13026/4nae-zg36. Departs from the released HGI-SAM code: labels are
joined on patient and slice number, not on the order of files; every voxel above 0 belongs to the mask.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.nifti import read_scan_with_mask
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.raw_folder import FIX_CSV, Listing, count_and_first, read_csv, require
from data_prep.scan_mask_pairs import check_matches, files_by_key, paired_files, scan_and_mask_files, stem_of
from data_prep.volume import Labels, Study, UnusableError, Volume
from hgisam.data.labels import SUBTYPES
from hgisam.errors import InputError

NAME = "ct-ich"
LICENCE = "PhysioNet Restricted Health Data License 1.5.0: data use agreement, no sharing"
ANNOTATIONS, MAIN_SPLIT, PUBLIC = "masks", "test", True
TABLE, SCANS, MASKS = "hemorrhage_diagnosis_raw_ct.csv", "ct_scans", "masks"
COLUMNS = ("PatientNumber", "SliceNumber", *(name.capitalize() for name in SUBTYPES))


def tables(raw: str | Path) -> list[Path]:
    """The CSV file of labels.

    Raises:
        InputError: If `raw` has another layout.
    """
    require(raw, [TABLE, f"{SCANS}/", f"{MASKS}/"], "CT-ICH")
    return [Path(raw) / TABLE]


def images(raw: str | Path) -> list[Path]:
    """All scans and masks.

    Raises:
        InputError: If there is no scan.
    """
    return scan_and_mask_files(Path(raw, SCANS), Path(raw, MASKS), "049")


def list_studies(raw: str | Path, workers: Workers, public_id: PublicId) -> Listing:
    """Joins scans, masks and labels on patient and slice number.

    Raises:
        InputError: If no scan has a mask and labels, or the geometry of scan and mask differs.
    """
    raw = Path(raw)
    del workers  # the headers of 75 files are read quickly
    labels, contradictions = read_labels(raw / TABLE)
    scans = set(files_by_key(raw / SCANS, []))
    check_matches(scans, set(labels), TABLE, SCANS)
    listing = Listing([])
    listing.without_image = [f"patient {key} of {TABLE}" for key in sorted(labels.keys() - scans)]
    for key, files, shape in paired_files(raw, SCANS, MASKS, listing.skipped):
        if key not in labels:
            listing.skipped.append((files[0], f"no row of {TABLE} for its patient"))
            continue
        try:
            rows, extra = _labels_of(labels[key], shape[2])
        except UnusableError as error:
            listing.skipped.append((files[0], str(error)))
            continue
        name = public_id(stem_of(raw / files[0]))
        listing.studies.append(Study(name, name, files, rows))
        listing.without_image += [f"slice {number} of patient {key} of {TABLE}" for number in extra]
    without_image = count_and_first(listing.without_image)
    listing.counts = {
        "no_hemorrhage_contradicts_subtypes": contradictions, "labels_without_image": without_image
    }  # fmt: skip
    return listing


def read_labels(path: str | Path) -> tuple[dict[str, pd.DataFrame], int]:
    """Reads the labels of slices from the CSV file.

    Returns:
        Patient number → table of slice number and subtypes; and the number of slices where No_Hemorrhage contradicts
        the subtypes.

    Raises:
        InputError: For values that are no numbers, or different labels for the same slice.
    """
    path = Path(path)
    table = read_csv(path, COLUMNS)
    numbers = table.iloc[:, :0].copy()
    for column in COLUMNS:
        values = pd.to_numeric(table[column].str.strip(), errors="coerce")
        allowed = values.isin([0, 1]) if column not in COLUMNS[:2] else values.notna() & (values % 1 == 0)
        if column == "PatientNumber":
            allowed |= table[column].str.strip() != ""
        if not allowed.all():
            got = f"{table[column][~allowed].iloc[0]!r} in row {int(np.flatnonzero(~allowed)[0]) + 2}"
            expected = "0 or 1" if column not in COLUMNS[:2] else "a whole number"
            raise InputError(f"{path.name} column {column}", got, expected, FIX_CSV)
        numbers[column] = values
    text = table["PatientNumber"].str.strip()
    numeric = numbers["PatientNumber"].notna()
    numbers["PatientNumber"] = [str(int(v)) if ok else t for v, ok, t in zip(
        numbers["PatientNumber"], numeric, text, strict=True
    )]  # fmt: skip
    numbers = numbers.astype(dict.fromkeys(COLUMNS[1:], "int64")).drop_duplicates()
    if (repeated := numbers.duplicated(list(COLUMNS[:2]))).any():
        row = numbers[repeated].iloc[0]
        got = f"different labels for slice {row['SliceNumber']} of patient {row['PatientNumber']}"
        raise InputError(path.name, got, "one row per slice", FIX_CSV)
    return {str(key): group for key, group in numbers.groupby("PatientNumber")}, _contradictions(path, table)


def _contradictions(path: Path, table: pd.DataFrame) -> int:
    """Number of slices where the optional column No_Hemorrhage equals the maximum of the subtypes."""
    if "No_Hemorrhage" not in pd.read_csv(path, nrows=0).columns:
        return 0
    none = pd.to_numeric(read_csv(path, ["No_Hemorrhage"])["No_Hemorrhage"], errors="coerce").to_numpy()
    subtypes = table[list(COLUMNS[2:])].apply(pd.to_numeric).max(axis=1).to_numpy()
    return int((none == subtypes).sum())


def _labels_of(table: pd.DataFrame, slices: int) -> tuple[Labels, list[int]]:
    """Labels [slice, 6] in stored order, -1 for slices without a row; and the numbers of rows without a slice.

    Raises:
        UnusableError: If some slices have no row and some rows no slice: the slices may be counted in another way.
    """
    by_number = table.set_index("SliceNumber")[list(COLUMNS[2:])]
    extra = sorted(set(by_number.index) - set(range(1, slices + 1)))
    subtypes = by_number.reindex(range(1, slices + 1), fill_value=-1).to_numpy()
    if extra and (subtypes < 0).any():
        numbers = f"slices {by_number.index.min()} to {by_number.index.max()}"
        raise UnusableError(f"rows of {TABLE} for {numbers}, but the scan has 1 to {slices}")
    return np.concatenate([subtypes.max(axis=1, keepdims=True), subtypes], axis=1).astype(np.int8), extra


def read_study(raw: str | Path, study: Study) -> Volume:
    """Reads a scan and its mask; see `read_scan_with_mask`."""
    return read_scan_with_mask(raw, study, None)
