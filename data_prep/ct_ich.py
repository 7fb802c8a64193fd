"""The PhysioNet CT-ICH layout: `ct_scans/049.nii`, `masks/049.nii` and `hemorrhage_diagnosis_raw_ct.csv`.

Source: Hssayeni et al. 2020, Data 5(1):14, doi 10.13026/4nae-zg36. Departs from the released HGI-SAM code: labels are
joined on patient and slice number, not on the order of files, and a mask is whatever is above 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.inputs import Listing, read_csv, require, some
from data_prep.nifti import read_masked
from data_prep.pairs import by_name, check_same, name_of, pairs, scans_and_masks
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.volume import Labels, Study, Volume
from hgisam.data.prepared import SUBTYPES
from hgisam.errors import InputError

NAME = "ct-ich"
LICENCE = "PhysioNet Restricted Health Data License 1.5.0: data use agreement, no sharing"
TRUTH, REST, PUBLIC = "masks", "test", True
TABLE, SCANS, MASKS = "hemorrhage_diagnosis_raw_ct.csv", "ct_scans", "masks"
COLUMNS = ("PatientNumber", "SliceNumber", *(name.capitalize() for name in SUBTYPES))


def tables(raw: Path) -> list[Path]:
    """The csv.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [TABLE, f"{SCANS}/", f"{MASKS}/"], "CT-ICH")
    return [raw / TABLE]


def images(raw: Path) -> list[Path]:
    """All scans and masks.

    Raises:
        InputError: If there is no scan.
    """
    return scans_and_masks(raw / SCANS, raw / MASKS, "049")


def list_studies(raw: Path, workers: Workers, public_id: PublicId) -> Listing:
    """Joins scans, masks and labels.

    Raises:
        InputError: If keys are missing or left over, or a mask does not fit its scan.
    """
    del workers  # headers of 75 files are read at once
    labels, contradictions = read_labels(raw / TABLE)
    check_same(set(by_name(raw / SCANS)), set(labels), TABLE, "rows for each scan", SCANS)
    listing = Listing([], counts={"no_hemorrhage_contradicts_subtypes": contradictions})
    for key, files, shape in pairs(raw, SCANS, MASKS, listing.skipped):
        name = public_id(name_of(raw / files[0]))
        listing.studies.append(Study(name, name, files, _labels_of(key, labels[key], shape[2])))
    return listing


def read_labels(path: Path) -> tuple[dict[str, pd.DataFrame], int]:
    """Reads the csv.

    Returns:
        Patient number → table of slice number and subtypes; and in how many slices No_Hemorrhage contradicts them.

    Raises:
        InputError: For values that are no numbers, or a slice that is listed twice with different labels.
    """
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
            raise InputError(f"{path.name} column {column}", got, expected, "Mend the csv.")
        numbers[column] = values
    text = table["PatientNumber"].str.strip()
    whole = numbers["PatientNumber"].notna()
    numbers["PatientNumber"] = [str(int(v)) if ok else t for v, ok, t in zip(
        numbers["PatientNumber"], whole, text, strict=True
    )]  # fmt: skip
    numbers = numbers.astype(dict.fromkeys(COLUMNS[1:], "int64")).drop_duplicates()
    if (twice := numbers.duplicated(list(COLUMNS[:2]))).any():
        row = numbers[twice].iloc[0]
        got = f"different labels for slice {row['SliceNumber']} of patient {row['PatientNumber']}"
        raise InputError(path.name, got, "one row a slice", "Mend the csv.")
    return {str(key): group for key, group in numbers.groupby("PatientNumber")}, _contradictions(path, table)


def _contradictions(path: Path, table: pd.DataFrame) -> int:
    """Slices where the column No_Hemorrhage, if there is one, says the same as a subtype or nothing at all."""
    if "No_Hemorrhage" not in pd.read_csv(path, nrows=0).columns:
        return 0
    none = pd.to_numeric(read_csv(path, ["No_Hemorrhage"])["No_Hemorrhage"], errors="coerce").to_numpy()
    subtypes = table[list(COLUMNS[2:])].apply(pd.to_numeric).max(axis=1).to_numpy()
    return int((none == subtypes).sum())


def _labels_of(patient: str, table: pd.DataFrame, slices: int) -> Labels:
    """[slice, 6] in the order as stored; slice numbers count from 1.

    Raises:
        InputError: Unless the table has each slice of the scan, and no other.
    """
    numbers = set(table["SliceNumber"])
    whole = set(range(1, slices + 1))
    for difference, verb in ((whole - numbers, "no row for"), (numbers - whole, "a row for")):
        if difference:
            got = f"{verb} slice {some(sorted(difference))} of patient {patient}"
            raise InputError(TABLE, got, f"slices 1 to {slices}", "Give the csv that belongs to these scans.")
    subtypes = table.sort_values("SliceNumber")[list(COLUMNS[2:])].to_numpy()
    return np.concatenate([subtypes.max(axis=1, keepdims=True), subtypes], axis=1).astype(np.int8)


def read_study(raw: Path, study: Study) -> Volume:
    """Reads a scan and its mask; see `read_masked`."""
    return read_masked(raw, study, None)
