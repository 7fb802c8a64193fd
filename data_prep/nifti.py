"""NIfTI files: opened with care, a mask held to its scan, voxels brought into the one orientation.

A reader says what the values of a mask mean and leaves the rest to this module.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from data_prep.inputs import quiet_readers, refused
from data_prep.volume import AIR_HU, Floats, Labels, Masks, Remarks, Study, UnusableError, Volume, canonical
from hgisam.data.prepared import MASK_VALUES, SUBTYPES

ENDINGS = (".nii", ".nii.gz")
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
SAME_MM = 0.05  # how far corners of a mask may lie from those of its scan
MOST_VOXELS = 2**29  # 2,000 slices of 512 x 512; a header that claims more would fill the memory
UNREADABLE = (  # what broken bytes make nibabel raise
    nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError, TypeError, KeyError, OverflowError,
    zlib.error, MemoryError,
)  # fmt: skip


def open_image(path: Path) -> Any:
    """The header of a NIfTI file.

    Raises:
        UnusableError: If it has none.
    """
    try:
        with quiet_readers(), path.open("rb"):  # nibabel takes what it may not read for another format
            image: Any = nib.load(path, mmap=False)  # a mapped file that shrinks would end the process
            _ = image.affine, image.shape
    except UNREADABLE as error:
        raise UnusableError(_why(error)) from None
    if not isinstance(image, nib.Nifti1Pair):
        raise UnusableError("not a NIfTI file")
    return image


def open_mask(path: Path) -> Any:
    try:
        return open_image(path)
    except UnusableError as error:
        raise UnusableError(f"its mask: {error}") from None


def _why(error: BaseException) -> str:
    if reason := refused(error):
        return reason
    return f"{'no NIfTI' if isinstance(error, nib.filebasedimages.ImageFileError) else 'a truncated or broken'} file"


def shape_of(image: Any) -> tuple[int, int, int]:
    """Shape without trailing axes of length 1.

    Raises:
        UnusableError: If it is not one volume of single values.
    """
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise UnusableError(f"shape {' × '.join(map(str, shape))} is not one volume")
    if np.prod(shape, dtype=float) > MOST_VOXELS:
        raise UnusableError(f"{np.prod(shape, dtype=float):.0f} voxels, more than {MOST_VOXELS}")
    if image.get_data_dtype().fields is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnusableError("colour or complex values")
    return shape[0], shape[1], shape[2]


def has_geometry(image: Any) -> bool:
    return bool(int(image.header["qform_code"]) or int(image.header["sform_code"]))


def read_masked(raw: Path, study: Study, meaning: Mapping[int, str] | None) -> Volume:
    """Reads a scan and its mask, the two files of a study.

    Args:
        raw: The raw folder.
        study: Where it says that no labels are known (-1), they are those of the mask.
        meaning: Value of the mask → name in `MASK_VALUES`; None where whatever is above 0 bleeds, of no said type.

    Raises:
        UnusableError: If one of the files is broken, the mask has other values, or the slices are not axial.
    """
    scan, mask, remarks = open_image(raw / study.files[0]), open_mask(raw / study.files[1]), Remarks()
    hu = _read_hu(raw / study.files[0], scan, remarks)
    try:
        drawn = _meant(voxels_of(raw / study.files[1], mask), meaning)
    except UnusableError as error:
        raise UnusableError(f"its mask: {error}", remarks) from None
    labels = study.labels
    if (labels[:, 0] < 0).all():
        labels = labels_of_mask(drawn, told=meaning is not None and "unspecified" not in meaning.values())
    found, said = drawn.any(axis=(1, 2)), labels[:, 0] == 1
    remarks.disagreements = {
        "label_without_mask": int((said & ~found).sum()), "mask_without_label": int((found & ~said).sum()),
    }  # fmt: skip
    return oriented(hu, drawn, labels, scan.affine, remarks)


def read_scan(raw: Path, study: Study) -> Volume:
    """Reads a scan without a mask, the only file of a study.

    Raises:
        UnusableError: If it is broken, or the slices are not axial.
    """
    scan, remarks = open_image(raw / study.files[0]), Remarks()
    return oriented(_read_hu(raw / study.files[0], scan, remarks), None, study.labels, scan.affine, remarks)


def _read_hu(path: Path, scan: Any, remarks: Remarks) -> Floats:
    """HU [slice, row, col] as stored, nothing below `AIR_HU`."""
    hu = voxels_of(path, scan).astype(np.float32)
    if (holes := ~np.isfinite(hu)).any():
        hu[holes] = AIR_HU
        remarks.mended["not_finite"] = 1
    if looks_offset(hu):
        raise UnusableError("values are not HU: nothing below 0 and tissue near 1040; subtract the offset")
    if not has_geometry(scan):
        remarks.mended["orientation_assumed"] = 1
    return np.maximum(hu, np.float32(AIR_HU))


def voxels_of(path: Path, image: Any) -> npt.NDArray[Any]:
    """[slice, row, col] = the file's axes 3, 2, 1, scaled as its header says."""
    try:
        with quiet_readers():
            voxels: npt.NDArray[Any] = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise UnusableError(_why(error)) from None
    return voxels.reshape(image.shape[:3]).transpose(2, 1, 0)


def _meant(values: npt.NDArray[Any], meaning: Mapping[int, str] | None) -> Masks:
    """ScoreMaps of a file → `MASK_VALUES`."""
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


def labels_of_mask(mask: Masks, *, told: bool) -> Labels:
    """[slice, 6] what is drawn in each slice; subtypes are -1 where the mask doesn't tell them and something bleeds."""
    bleeds = np.asarray(mask.any(axis=(1, 2)))
    types = np.stack([(mask == MASK_VALUES[name]).any(axis=(1, 2)) for name in SUBTYPES], axis=1).astype(np.int8)
    if not told:
        types[bleeds] = -1
    return np.concatenate([bleeds[:, None].astype(np.int8), types], axis=1)


def oriented(hu: Floats, mask: Masks | None, labels: Labels, affine: npt.NDArray[Any], remarks: Remarks) -> Volume:
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
