"""Masks in NIfTI files: their values told apart, and their voxels brought to those of their scan by place in space.

A reader gives the meaning of the values; this module does the rest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel import orientations as nib_orientations
from scipy import ndimage

from data_prep.nifti import has_geometry, open_image, read_hu, shape_of, to_canonical, voxels_of
from data_prep.volume import Labels, Masks, Remarks, Study, UnusableError, Volume, naming
from hgisam.data.labels import MASK_VALUES, SUBTYPES

orientations: Any = nib_orientations  # nibabel has no types
SAME_MM = 0.05  # tolerance between the corners of a mask and of its scan
MOVED_MM = 3.0  # up to here a mask is slightly moved; farther away it belongs to another scan
WHOLE = 0.01  # tolerance of a whole number
FULL, FULL_TOLERANCE = 255.0, 1.0  # value of the masks of CT-ICH, "about 255"
WRAPPED = -1  # 255 in signed bytes


def read_scan_with_mask(raw: str | Path, study: Study, meaning: Mapping[int, str] | None) -> Volume:
    """Reads a study of two files, a scan and its mask.

    Args:
        raw: The raw folder.
        study: If its labels are not annotated (-1), those of the mask are used.
        meaning: Value of the mask → name in `MASK_VALUES`; None if every voxel that is not 0 bleeds and subtypes are
            unknown.

    Raises:
        UnusableError: If a file is broken, the mask has unknown values or the places of another scan, or the slices are
            not axial.
    """
    remarks = Remarks()
    with open_image(Path(raw, study.files[0])) as scan:
        hu, affine = read_hu(scan, remarks), scan.affine
        with naming("its mask"), open_image(Path(raw, study.files[1])) as mask:
            annotated = at_places_of(scan, mask, _to_mask_values(voxels_of(mask), meaning), remarks)
    labels = study.labels
    if (labels[:, 0] < 0).all():
        labels = labels_of_mask(annotated, subtypes_known=meaning is not None and "unspecified" not in meaning.values())
    remarks.unlabelled = [study.files[0]] * int((labels[:, 0] < 0).sum())
    in_mask, labelled = annotated.any(axis=(1, 2)), labels[:, 0] == 1
    remarks.disagreements = {
        "label_without_mask": int((labelled & ~in_mask).sum()),
        "mask_without_label": int((in_mask & (labels[:, 0] == 0)).sum()),
    }  # fmt: skip
    return to_canonical(hu, annotated, labels, affine, remarks)


def at_places_of(scan: Any, mask: Any, values: Masks, remarks: Remarks) -> Masks:
    """Values of a mask in the stored order of its scan, [slice, row, col].

    A mask stored in another order of axes, as its header says, is turned; one that is up to `MOVED_MM` away is moved by
    whole voxels. Without orientation in one of the headers the mask is taken as stored.

    Args:
        scan, mask: From `open_image`.
        values: [slice, row, col] in the stored order of the mask.
        remarks: Get the fix `mask_moved`.

    Raises:
        UnusableError: If the mask has other places than the scan.
    """
    voxels, shape = values.transpose(2, 1, 0), shape_of(scan)
    by_place = has_geometry(scan) and has_geometry(mask)
    affine = mask.affine
    if by_place:
        turn = orientations.io_orientation(np.linalg.inv(_invertible(scan)) @ _invertible(mask))
        affine = affine @ orientations.inv_ornt_aff(turn, voxels.shape)
        voxels = orientations.apply_orientation(voxels, turn)
    if voxels.shape != shape:
        raise UnusableError(f"shape {_text(mask.shape)} where its scan has {_text(shape)}")
    if not by_place:
        if not np.abs(np.subtract(scan.header.get_zooms()[:3], mask.header.get_zooms()[:3])).max() <= SAME_MM:
            raise UnusableError("other voxel sizes than its scan")
        return voxels.transpose(2, 1, 0)
    ends = np.subtract(shape, 1)
    corners = np.array([[*(ends * [i, j, k]), 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    off_mm = corners @ (affine - scan.affine)[:3].T  # [corner, 3]
    farthest_mm = np.linalg.norm(off_mm, axis=1).max()
    if not farthest_mm <= MOVED_MM:
        raise UnusableError(f"voxels up to {farthest_mm:.1f} mm away from those of its scan")
    if farthest_mm > SAME_MM:
        remarks.fixes["mask_moved"] = 1
        shift = np.rint(np.linalg.solve(scan.affine[:3, :3], off_mm.mean(axis=0)))
        moved = ndimage.shift(voxels, shift, order=0)
        if np.count_nonzero(moved) < np.count_nonzero(voxels):
            raise UnusableError("it reaches out of its scan")
        voxels = moved
    return np.asarray(voxels.transpose(2, 1, 0))


def _invertible(image: Any) -> npt.NDArray[Any]:
    """Affine of an image.

    Raises:
        UnusableError: If it has no inverse.
    """
    affine: npt.NDArray[Any] = image.affine
    if not np.isfinite(affine).all() or not np.linalg.cond(affine[:3, :3]) < 1e6:
        raise UnusableError("no usable voxel spacing in the header")
    return affine


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _to_mask_values(values: npt.NDArray[Any], meaning: Mapping[int, str] | None) -> Masks:
    """Values of the file → `MASK_VALUES`; a value within `WHOLE` of a whole number is that number."""
    if np.issubdtype(values.dtype, np.integer):
        whole, near = values, np.ones(values.shape, bool)
    else:
        whole = np.rint(values)
        near = np.abs(values - whole) <= WHOLE  # NaN is near nothing
    if meaning is None:
        mask = np.where(whole != 0, np.uint8(MASK_VALUES["unspecified"]), np.uint8(0))
        unknown = ~near | (whole < WRAPPED)
        if not near.all():
            unknown &= ~(np.abs(values - FULL) <= FULL_TOLERANCE)
    else:
        mask = np.zeros(values.shape, np.uint8)
        for value, name in meaning.items():
            mask[whole == value] = MASK_VALUES[name]
        unknown = ~near | ((whole != 0) & (mask == 0))
    if unknown.any():
        found = np.format_float_positional(np.extract(unknown, values)[0], trim="-")
        known = "whole numbers from 0" if meaning is None else f"0, {', '.join(map(str, meaning))}"
        raise UnusableError(f"value {found} where only {known} are known")
    return mask


def labels_of_mask(mask: Masks, *, subtypes_known: bool) -> Labels:
    """Labels [slice, 6] of a mask [slice, row, col]; the subtypes of a bleeding slice are -1 if they are unknown."""
    bleeds = np.asarray(mask.any(axis=(1, 2)))
    types = np.stack([(mask == MASK_VALUES[name]).any(axis=(1, 2)) for name in SUBTYPES], axis=1).astype(np.int8)
    if not subtypes_known:
        types[bleeds] = -1
    return np.concatenate([bleeds[:, None].astype(np.int8), types], axis=1)
