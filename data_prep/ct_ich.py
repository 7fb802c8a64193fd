"""The PhysioNet CT-ICH layout: `ct_scans/049.nii`, `masks/049.nii` and `hemorrhage_diagnosis_raw_ct.csv`.

Source: Hssayeni et al. 2020, Data 5(1):14, doi 10.13026/4nae-zg36. Departs from the released HGI-SAM code: labels are
joined on patient and slice number, not on the order of files, and a mask is whatever is above 0.
"""

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from data_prep.inputs import Listing, quiet_readers, read_csv, require, some
from data_prep.privacy import public_id
from data_prep.volume import AIR_HU, Bools, Floats, Labels, Remarks, Study, UnusableError, Volume, canonical
from hgisam.errors import InputError
from hgisam.prepared import SUBTYPES

NAME = "ct-ich"
LICENCE = "PhysioNet Restricted Health Data License 1.5.0: data use agreement, no sharing"
TABLE, SCANS, MASKS = "hemorrhage_diagnosis_raw_ct.csv", "ct_scans", "masks"
COLUMNS = ("PatientNumber", "SliceNumber", *(name.capitalize() for name in SUBTYPES))
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
SAME_MM = 0.05  # how far corners of a mask may lie from those of its scan
UNREADABLE = (  # what broken bytes make nibabel raise
    nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError, TypeError, KeyError, OverflowError,
    zlib.error, MemoryError,
)  # fmt: skip


def tables(raw: Path) -> list[Path]:
    """The csv.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [TABLE, f"{SCANS}/", f"{MASKS}/"], "CT-ICH")
    return [raw / TABLE]


def images(raw: Path) -> list[Path]:
    """All scans and masks, sorted.

    Raises:
        InputError: If there is no scan.
    """
    scans, masks = _nifti(raw / SCANS), _nifti(raw / MASKS)
    if not scans:
        raise InputError(f"{raw / SCANS}", "no .nii file", "049.nii or 049.nii.gz", "Unpack the scans into it.")
    return [*scans, *masks]


def _nifti(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith((".nii", ".nii.gz")) and path.name[0] != ".")


def _by_patient(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _nifti(folder):
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        key = str(int(name)) if name.isdigit() else name
        if key in found:
            raise InputError(
                f"{folder.name} of patient {key}",
                f"{found[key].name} and {path.name}",
                "one file",
                "Remove one of them.",
            )
        found[key] = path
    return found


def list_studies(raw: Path, jobs: int) -> Listing:
    """Joins scans, masks and labels.

    Raises:
        InputError: If keys are missing or left over, or a mask does not fit its scan.
    """
    del jobs  # headers of 75 files are read at once
    labels, contradictions = read_labels(raw / TABLE)
    scans, masks = _by_patient(raw / SCANS), _by_patient(raw / MASKS)
    _same(set(scans), set(masks), f"{MASKS}/", "a mask file for each scan, also for one without bleeding")
    _same(set(scans), set(labels), TABLE, "rows for each scan")
    anonymous = (raw / "phantom.json").is_file()
    listing = Listing([], counts={"no_hemorrhage_contradicts_subtypes": contradictions})
    for key in sorted(scans, key=lambda name: (len(name), name)):
        scan, mask = scans[key], masks[key]
        try:
            scan_header, mask_header = _open(scan), _open(mask)
            shape = _shape(scan_header)
        except UnusableError as error:
            listing.skipped.append((f"{SCANS}/{scan.name}", str(error)))
            continue
        _check_mask(mask.name, scan_header, mask_header)
        name = public_id(scan.name.split(".nii")[0], anonymous=anonymous)
        listing.studies.append(
            Study(
                name,
                name,
                (f"{SCANS}/{scan.name}", f"{MASKS}/{mask.name}"),
                _labels_of(key, labels[key], shape[2]),
            )
        )
    return listing


def _same(scans: set[str], others: set[str], what: str, expected: str) -> None:
    remedy = "Give the data set as it was published."
    if missing := sorted(scans - others):
        raise InputError(what, f"nothing for patient {some(missing)}", expected, remedy)
    if extra := sorted(others - scans):
        raise InputError(what, f"patient {some(extra)}, who has no file in {SCANS}/", expected, remedy)


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


def _open(path: Path) -> Any:
    """The header of a NIfTI file.

    Raises:
        UnusableError: If it has none.
    """
    try:
        with quiet_readers():
            image: Any = nib.load(path, mmap=False)  # a mapped file that shrinks would end the process
            _ = image.affine, image.shape
    except UNREADABLE as error:
        raise UnusableError(_why(path, error)) from None
    if not isinstance(image, nib.Nifti1Pair):
        raise UnusableError("not a NIfTI file")
    return image


def _why(path: Path, error: BaseException) -> str:
    if isinstance(error, nib.filebasedimages.ImageFileError):
        return f"{path.parent.name}/{path.name} is empty or no NIfTI file"
    return f"{path.parent.name}/{path.name} is truncated or broken"


def _shape(image: Any) -> tuple[int, int, int]:
    """Shape without trailing axes of length 1.

    Raises:
        UnusableError: If it is not one volume of single values.
    """
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise UnusableError(f"shape {' × '.join(map(str, shape))} is not one volume")
    if image.get_data_dtype().fields is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnusableError("colour or complex values")
    return shape[0], shape[1], shape[2]


def _has_geometry(image: Any) -> bool:
    return bool(int(image.header["qform_code"]) or int(image.header["sform_code"]))


def _check_mask(name: str, scan: Any, mask: Any) -> None:
    """Holds a mask to its scan; one whose header has no orientation at all is taken to be stored as its scan is."""
    remedy = "Give the mask that was drawn on this scan."
    got = " × ".join(map(str, mask.shape))
    try:
        fits = _shape(mask) == _shape(scan)
    except UnusableError:
        fits = False
    if not fits:
        raise InputError(f"{MASKS}/{name}", f"shape {got}", f"{' × '.join(map(str, scan.shape))} as its scan", remedy)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [
        *(np.array(_shape(scan)) - 1),
        1,
    ]
    if _has_geometry(mask):
        off = np.abs(corners @ (scan.affine - mask.affine).T).max()
    else:
        off = np.abs(np.subtract(scan.header.get_zooms()[:3], mask.header.get_zooms()[:3])).max()
    if not off <= SAME_MM:
        got = f"voxels up to {off:.1f} mm away from those of its scan"
        raise InputError(f"{MASKS}/{name} geometry", got, "orientation, spacing and place of its scan", remedy)


def read_study(raw: Path, study: Study) -> Volume:
    """Reads a scan and its mask.

    Raises:
        UnusableError: If one of them is broken, or the slices are not axial.
    """
    scan, mask = (_open(raw / file) for file in study.files)
    remarks = Remarks()
    hu = _voxels(raw / study.files[0], scan).astype(np.float32)
    if (holes := ~np.isfinite(hu)).any():
        hu[holes] = AIR_HU
        remarks.mended["not_finite"] = 1
    if looks_offset(hu):
        raise UnusableError("values are not HU: nothing below 0 and tissue near 1040; subtract the offset")
    bleeding = _voxels(raw / study.files[1], mask) > 0
    if not _has_geometry(scan):
        remarks.mended["orientation_assumed"] = 1
    found, said = bleeding.any(axis=(1, 2)), study.labels[:, 0] == 1
    remarks.disagreements = {
        "label_without_mask": int((said & ~found).sum()), "mask_without_label": int((found & ~said).sum()),
    }  # fmt: skip
    return _oriented(np.maximum(hu, AIR_HU), bleeding, study.labels, scan.affine, remarks)


def _voxels(path: Path, image: Any) -> npt.NDArray[Any]:
    """[slice, row, col] = the file's axes 3, 2, 1, scaled as its header says."""
    try:
        with quiet_readers():
            voxels: npt.NDArray[Any] = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise UnusableError(_why(path, error)) from None
    return voxels.reshape(image.shape[:3]).transpose(2, 1, 0)


def _oriented(hu: Floats, mask: Bools, labels: Labels, affine: npt.NDArray[Any], remarks: Remarks) -> Volume:
    steps = affine[:3, :3] * RAS_TO_LPS[:, None]  # columns: steps along the file's axes 1, 2, 3 in mm
    if not np.isfinite(affine).all() or (np.linalg.norm(steps, axis=0) <= 0).any():
        raise UnusableError("no usable voxel spacing in the header")
    origins = affine[:3, 3] * RAS_TO_LPS + np.arange(len(hu))[:, None] * steps[:, 2]
    return canonical(
        hu, mask, labels, origins_mm=origins, col_step_mm=steps[:, 0], row_step_mm=steps[:, 1],
        slice_mm=float(np.linalg.norm(steps[:, 2])), remarks=remarks,
    )  # fmt: skip


def looks_offset(hu: Floats) -> bool:
    """Whether a scan holds HU + 1024 or so: nothing below 0, and far more around 1040 than below it.

    In true HU the range 200 to 900 holds bone, in offset values almost nothing but the edges of the head.
    """
    if hu.min() < 0:
        return False
    tissue = np.count_nonzero((hu > 960) & (hu < 1160))
    return bool(tissue > 0.05 * hu.size and tissue > 2 * np.count_nonzero((hu > 200) & (hu < 900)))
