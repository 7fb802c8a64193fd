"""NIfTI files: headers checked, scans and masks read in the canonical orientation.

A reader gives the meaning of the mask values; this module does the rest.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from data_prep.raw_folder import quiet_readers, read_failure
from data_prep.volume import AIR_HU, Floats, Labels, Masks, Remarks, Study, UnusableError, Volume, canonical
from hgisam.data.labels import MASK_VALUES, SUBTYPES

ENDINGS = (".nii", ".nii.gz")
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
SAME_MM = 0.05  # tolerance between corners of a mask and of its scan
MAX_VOXELS = 2**29  # 2,000 slices of 512 x 512; a broken header that claims more would exhaust the memory
UNREADABLE = (  # exceptions of nibabel for broken files
    nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError, TypeError, KeyError, OverflowError,
    zlib.error, MemoryError,
)  # fmt: skip


def open_image(path: str | Path) -> Any:
    """Opens a NIfTI file and reads its header.

    Raises:
        UnusableError: If it is no readable NIfTI file.
    """
    try:
        with (
            quiet_readers(),
            Path(path).open("rb"),
        ):  # open first: nibabel takes a lack of permission for another format
            image: Any = nib.load(path, mmap=False)  # a mapped file that shrinks would kill the process
            _ = image.affine, image.shape
    except UNREADABLE as error:
        raise UnusableError(_reason(error)) from None
    if not isinstance(image, nib.Nifti1Pair):
        raise UnusableError("not a NIfTI file")
    return image


def open_mask(path: str | Path) -> Any:
    """Opens the NIfTI file of a mask; as `open_image`, but the reason names the mask."""
    try:
        return open_image(path)
    except UnusableError as error:
        raise UnusableError(f"its mask: {error}") from None


def _reason(error: BaseException) -> str:
    if reason := read_failure(error):
        return reason
    return f"{'no NIfTI' if isinstance(error, nib.filebasedimages.ImageFileError) else 'a truncated or broken'} file"


def shape_of(image: Any) -> tuple[int, int, int]:
    """Shape of a NIfTI volume, without trailing axes of length 1.

    Raises:
        UnusableError: If it is not one volume of scalars, or too large.
    """
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise UnusableError(f"shape {' × '.join(map(str, shape))} is not one volume")
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise UnusableError(f"{np.prod(shape, dtype=float):.0f} voxels, more than {MAX_VOXELS}")
    if image.get_data_dtype().fields is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnusableError("colour or complex values")
    return shape[0], shape[1], shape[2]


def has_geometry(image: Any) -> bool:
    """True if the header has an orientation (qform or sform)."""
    return bool(int(image.header["qform_code"]) or int(image.header["sform_code"]))


def read_scan_with_mask(raw: str | Path, study: Study, meaning: Mapping[int, str] | None) -> Volume:
    """Reads a study of two files, a scan and its mask.

    Args:
        raw: The raw folder.
        study: If its labels are not annotated (-1), those of the mask are used.
        meaning: Value of the mask → name in `MASK_VALUES`; None if every voxel above 0 bleeds and subtypes are unknown.

    Raises:
        UnusableError: If a file is broken, the mask has unknown values, or the slices are not axial.
    """
    raw = Path(raw)
    scan, mask, remarks = open_image(raw / study.files[0]), open_mask(raw / study.files[1]), Remarks()
    hu = _read_hu(raw / study.files[0], scan, remarks)
    try:
        annotated = _to_mask_values(voxels_of(raw / study.files[1], mask), meaning)
    except UnusableError as error:
        raise UnusableError(f"its mask: {error}", remarks) from None
    labels = study.labels
    if (labels[:, 0] < 0).all():
        labels = labels_of_mask(annotated, subtypes_known=meaning is not None and "unspecified" not in meaning.values())
    remarks.unlabelled = [study.files[0]] * int((labels[:, 0] < 0).sum())
    in_mask, labelled = annotated.any(axis=(1, 2)), labels[:, 0] == 1
    remarks.disagreements = {
        "label_without_mask": int((labelled & ~in_mask).sum()),
        "mask_without_label": int((in_mask & (labels[:, 0] == 0)).sum()),
    }  # fmt: skip
    return to_canonical(hu, annotated, labels, scan.affine, remarks)


def read_scan(raw: str | Path, study: Study) -> Volume:
    """Reads a study of one file, a scan without a mask.

    Raises:
        UnusableError: If the file is broken, or the slices are not axial.
    """
    path = Path(raw, study.files[0])
    remarks = Remarks(unlabelled=[study.files[0]] * int((study.labels[:, 0] < 0).sum()))
    scan = open_image(path)
    return to_canonical(_read_hu(path, scan, remarks), None, study.labels, scan.affine, remarks)


def _read_hu(path: Path, scan: Any, remarks: Remarks) -> Floats:
    """HU [slice, row, col] in stored order, clipped below at `AIR_HU`."""
    hu = voxels_of(path, scan).astype(np.float32)
    if (not_finite := ~np.isfinite(hu)).any():
        hu[not_finite] = AIR_HU
        remarks.fixes["not_finite"] = 1
    if has_hu_offset(hu):
        raise UnusableError("values are not HU: nothing below 0 and tissue near 1040; subtract the offset")
    if not has_geometry(scan):
        remarks.fixes["orientation_assumed"] = 1
    return np.maximum(hu, np.float32(AIR_HU))


def voxels_of(path: str | Path, image: Any) -> npt.NDArray[Any]:
    """Voxels [slice, row, col], which are the file's axes 3, 2, 1, scaled by its header.

    Raises:
        UnusableError: If the file is broken.
    """
    try:
        with quiet_readers():
            voxels: npt.NDArray[Any] = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise UnusableError(_reason(error)) from None
    return voxels.reshape(image.shape[:3]).transpose(2, 1, 0)


def _to_mask_values(values: npt.NDArray[Any], meaning: Mapping[int, str] | None) -> Masks:
    """Values of the file → `MASK_VALUES`."""
    if meaning is None:
        return np.where(values > 0, np.uint8(MASK_VALUES["unspecified"]), np.uint8(0))
    mask = np.zeros(values.shape, np.uint8)
    for value, name in meaning.items():
        mask[values == value] = MASK_VALUES[name]
    unknown = (values != 0) & (mask == 0)
    if unknown.any():
        first = float(np.extract(unknown, values)[0])
        raise UnusableError(f"value {first:g} where only 0, {', '.join(map(str, meaning))} are known")
    return mask


def labels_of_mask(mask: Masks, *, subtypes_known: bool) -> Labels:
    """Labels [slice, 6] of a mask [slice, row, col]; the subtypes of a bleeding slice are -1 if they are unknown."""
    bleeds = np.asarray(mask.any(axis=(1, 2)))
    types = np.stack([(mask == MASK_VALUES[name]).any(axis=(1, 2)) for name in SUBTYPES], axis=1).astype(np.int8)
    if not subtypes_known:
        types[bleeds] = -1
    return np.concatenate([bleeds[:, None].astype(np.int8), types], axis=1)


def to_canonical(hu: Floats, mask: Masks | None, labels: Labels, affine: npt.NDArray[Any], remarks: Remarks) -> Volume:
    """Turns NIfTI voxels [slice, row, col] into the canonical orientation, by the affine of their header.

    Raises:
        UnusableError: If the affine is invalid, or the slices are not axial.
    """
    steps = affine[:3, :3] * RAS_TO_LPS[:, None]  # columns: steps along the file's axes 1, 2, 3 in mm
    if not np.isfinite(affine).all() or (np.linalg.norm(steps, axis=0) <= 0).any():
        raise UnusableError("no usable voxel spacing in the header")
    origins = affine[:3, 3] * RAS_TO_LPS + np.arange(len(hu))[:, None] * steps[:, 2]
    return canonical(
        hu, mask, labels, origins_mm=origins, col_step_mm=steps[:, 0], row_step_mm=steps[:, 1],
        slice_mm=float(np.linalg.norm(steps[:, 2])), remarks=remarks,
    )  # fmt: skip


def has_hu_offset(hu: Floats) -> bool:
    """True if a scan holds about HU + 1024: nothing below 0, and many more voxels near 1040 than between 200 and 900.

    In true HU the range 200 to 900 is bone; with an offset it is almost nothing but the edges of the head.
    """
    if hu.min() < 0:
        return False
    tissue = np.count_nonzero((hu > 960) & (hu < 1160))
    return bool(tissue > 0.05 * hu.size and tissue > 2 * np.count_nonzero((hu > 200) & (hu < 900)))
