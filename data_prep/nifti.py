"""NIfTI files, whatever their names: headers checked, scans read in the canonical orientation."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.fileholders import FileHolder

from data_prep.file_kind import NIFTI_HEADER, nifti_magic, unpacked, voxel_file
from data_prep.hounsfield import padding_to_air
from data_prep.raw_folder import foreign_reader, read_failure
from data_prep.volume import (
    AIR_HU,
    MAX_VOXELS,
    Floats,
    Labels,
    Masks,
    Remarks,
    Study,
    UnusableError,
    Volume,
    canonical,
)

KINDS: dict[bytes, Any] = {
    b"n+1": nib.Nifti1Image, b"n+2": nib.Nifti2Image, b"ni1": nib.Nifti1Pair, b"ni2": nib.Nifti2Pair
}  # fmt: skip
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
FILE_AXES = (2, 1, 0)  # slice, row, column
FINE_MM = 2.0  # largest pixel pitch of axial slices that are stored along another axis


@contextmanager
def open_image(path: str | Path) -> Iterator[Any]:
    """Opens a NIfTI file, or the header of a pair, and reads its header; voxels can be read until it is closed.

    Raises:
        UnusableError: If it is no readable NIfTI file.
    """
    path = Path(path)
    with ExitStack() as files:
        with foreign_reader(_reason):
            header = files.enter_context(unpacked(path))
            start = header.read(NIFTI_HEADER)
            header.seek(0)
            if not (magic := nifti_magic(start)):
                raise UnusableError("no NIfTI file")
            voxels = header
            if magic.startswith(b"ni"):
                if not (beside := voxel_file(path)):
                    raise UnusableError("a header without its .img file")
                voxels = files.enter_context(unpacked(beside))
            image: Any = KINDS[magic].from_file_map(
                {"header": FileHolder(fileobj=header), "image": FileHolder(fileobj=voxels)}, mmap=False
            )  # a mapped file that shrinks would kill the process
            _ = image.affine, image.shape
        yield image


def _reason(error: Exception) -> str:
    return read_failure(error) or "a truncated or broken file"


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


def read_scan(raw: str | Path, study: Study) -> Volume:
    """Reads a study of one file, a scan without a mask.

    Raises:
        UnusableError: If the file is broken, or the slices are not axial.
    """
    remarks = Remarks(unlabelled=[study.files[0]] * int((study.labels[:, 0] < 0).sum()))
    with open_image(Path(raw, study.files[0])) as scan:
        hu, affine = read_hu(scan, remarks), scan.affine
    axes = slice_axes(affine)
    if axes == FILE_AXES or (study.labels >= 0).any():  # labels count the slices along the file's third axis
        return to_canonical(hu, None, study.labels, affine, remarks)
    remarks.fixes["axes"] = 1
    hu = np.ascontiguousarray(hu.transpose([2 - axis for axis in axes]))
    labels = np.full((len(hu), study.labels.shape[1]), -1, np.int8)
    return to_canonical(hu, None, labels, affine[:, [*reversed(axes), 3]], remarks)


def slice_axes(affine: npt.NDArray[Any]) -> tuple[int, int, int]:
    """Axes of a NIfTI file that are slice, row and column: the third, second and first, unless those are not axial.

    A file may be stored along any axis, such as left to right. Its axial slices are as good, as long as the pixels are
    as fine as those of a head CT; where they are not, its own slices stay and are refused as not axial.
    """
    steps = np.asarray(affine[:3, :3], float)
    lengths = np.linalg.norm(steps, axis=0)
    if not np.isfinite(lengths).all() or lengths.min() <= 0:
        return FILE_AXES
    along = int(np.argmax(np.abs(steps[2] / lengths)))
    row, col = (axis for axis in (2, 1, 0) if axis != along)
    return FILE_AXES if along == 2 or max(lengths[row], lengths[col]) > FINE_MM else (along, row, col)


def read_hu(scan: Any, remarks: Remarks) -> Floats:
    """HU [slice, row, col] of an open file in stored order, clipped below at `AIR_HU`.

    Raises:
        UnusableError: If the file is broken.
    """
    hu = voxels_of(scan).astype(np.float32)
    if (not_finite := ~np.isfinite(hu)).any():
        hu[not_finite] = AIR_HU
        remarks.fixes["not_finite"] = 1
    if padding_to_air(hu):
        remarks.fixes["padding"] = 1
    if not has_geometry(scan):
        remarks.fixes["orientation_assumed"] = 1
    return np.maximum(hu, np.float32(AIR_HU))


def voxels_of(image: Any) -> npt.NDArray[Any]:
    """Voxels [slice, row, col] of an open file, which are its axes 3, 2, 1, scaled by its header.

    Raises:
        UnusableError: If the file is broken, or holds more or less than one volume.
    """
    shape = shape_of(image)
    with foreign_reader(_reason):
        voxels: npt.NDArray[Any] = np.asanyarray(image.dataobj)
    return voxels.reshape(shape).transpose(2, 1, 0)


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
