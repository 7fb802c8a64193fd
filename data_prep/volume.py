"""A study in memory, in the canonical orientation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Coordinates = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Masks = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int8]
Boxes = npt.NDArray[np.float64]  # [box, 6] slice, value of MASK_VALUES, then edges in px: row0, col0, row1, col1

AIR_HU = -1024  # lower bound of HU, and the value outside the image
SAME_POSITION_MM = 0.1
PIXEL_MM = (0.05, 10.0)  # plausible pixel pitch of a head CT; other values were given in another unit
MAX_EXTENT_MM = 2000.0  # along the normal of the slices, and of their drift within the plane
RIGHT_ANGLE = 0.02  # tolerance of the cosine between rows and columns
PLANES = ("sagittal", "coronal", "axial")  # by the axis of patient coordinates along which the slices follow each other
MAX_VOXELS = 2**29  # 2,000 slices of 512 x 512; a broken header that claims more would exhaust the memory
UNKNOWN_VENDOR = "unknown"


def no_boxes() -> Boxes:
    """An empty list of boxes."""
    return np.zeros((0, 6))


def renumbered(boxes: Boxes, new_index: Mapping[int, int]) -> Boxes:
    """The boxes of the slices in `new_index` (old slice index → new one), with the new slice indices."""
    kept = boxes[[int(slice_) in new_index for slice_ in boxes[:, 0]]]
    if not len(kept):
        return no_boxes()
    return np.column_stack([[new_index[int(slice_)] for slice_ in kept[:, 0]], kept[:, 1:]])


@dataclass(frozen=True)
class Study:
    """A listed study: its files, and the labels of its slices in the order of the files.

    Attributes:
        patient: Public id.
        study: Public id, unique in the data set.
        files: Paths relative to the raw folder.
        labels: [slice, 6] 0 or 1 in the order of `hgisam.data.prepared.LABELS`; -1 if not annotated: all labels of an
            unlabelled slice, the subtypes of a slice that bleeds without known subtype.
        fix_intercept: Undo the wrong intercept that some images of RSNA 2019 have.
        boxes: Annotated boxes of bleeds, in the order and the pixels of the files; edges count from the edge of the
            first pixel.
        brain: File of an imported brain mask.
        frames: Of DICOM files: number of each image in its file, counted from 0; empty if each file holds one image.
        patient_known: False if its patient may be that of other studies, or its id that of other patients.
    """

    patient: str
    study: str
    files: tuple[str, ...]
    labels: Labels
    fix_intercept: bool = False
    boxes: Boxes = field(default_factory=no_boxes)
    brain: Path | None = None
    frames: tuple[int, ...] = ()
    patient_known: bool = True


@dataclass
class Remarks:
    """Remarks on the reading of a study, for the report.

    Attributes:
        skipped: (file, reason) of skipped files.
        fixes: Defect → number of files or slices of the study in which it was fixed.
        duplicates: Number of images skipped as copies of another of the series.
        unlabelled: Images without labels.
        disagreements: Number of slices whose label and mask contradict each other, by kind.
        vendor: Vendor of the scanner.
    """

    skipped: list[tuple[str, str]] = field(default_factory=list)
    fixes: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    unlabelled: list[str] = field(default_factory=list)
    disagreements: dict[str, int] = field(default_factory=dict)
    vendor: str = UNKNOWN_VENDOR


class UnusableError(Exception):
    """An unusable file or study; the report names it with its reason, the run continues.

    Args:
        reason: One line, without paths.
        remarks: Remarks on the study so far.
    """

    def __init__(self, reason: str, remarks: Remarks | None = None) -> None:
        self.remarks = remarks or Remarks()
        super().__init__(reason)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Puts what is unusable before the reason, such as "its mask"."""
    try:
        yield
    except UnusableError as error:
        raise UnusableError(f"{what}: {error}", error.remarks) from None


@dataclass(frozen=True)
class Stored:
    """Where and how the slices of a volume were stored: the way back from the canonical orientation.

    Attributes:
        transposed: True if stored rows are canonical columns.
        flipped: Whether canonical rows, and columns, run against the stored ones, once these are transposed.
        origins_mm: [slice, 3] position of each slice's first stored pixel in DICOM's patient coordinates, in the order
            of the volume.
        row_step_mm: [3] step from one stored row to the next.
        col_step_mm: [3] step from one stored column to the next.
    """

    transposed: bool
    flipped: tuple[bool, bool]
    origins_mm: Coordinates
    row_step_mm: Coordinates
    col_step_mm: Coordinates

    def pixels(self, slices: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Canonical slices [slice, row, col] with their pixels as stored."""
        by_row, by_col = (-1 if flip else 1 for flip in self.flipped)
        unflipped = slices[:, ::by_row, ::by_col]
        return unflipped.transpose(0, 2, 1) if self.transposed else unflipped


@dataclass
class Volume:
    """A study in the canonical orientation: slice 0 is the lowest, row 0 anterior, col 0 the patient's right.

    Attributes:
        hu: [slice, row, col].
        mask: [slice, row, col] values of `hgisam.data.prepared.MASK_VALUES`, or None if the data set has no masks.
        labels: [slice, 6], see `Study.labels`.
        row_mm: Distance between rows.
        col_mm: Distance between columns.
        positions_mm: [slice] along the normal of the slices, 0 for the lowest.
        drift_px: [slice, 2] displacement (row, col) of a slice's first pixel against that of the lowest slice; not zero
            if the gantry was tilted.
        source_index: [slice] index in stored order.
        slice_mm: Distance between slices by the header, 0 if it has none.
        remarks: Remarks for the report.
        boxes: Annotated boxes as in `Study.boxes`, in the order and orientation of `hu`.
        stored: The way back to the files; None for a volume that was made from prepared slices.
    """

    hu: Floats
    mask: Masks | None
    labels: Labels
    row_mm: float
    col_mm: float
    positions_mm: Coordinates
    drift_px: Coordinates
    source_index: npt.NDArray[np.int64]
    slice_mm: float
    remarks: Remarks
    boxes: Boxes = field(default_factory=no_boxes)
    stored: Stored | None = None

    def keep(self, slices: npt.NDArray[np.bool_]) -> "Volume":
        """The study with a subset of its slices."""
        return Volume(
            hu=self.hu[slices],
            mask=None if self.mask is None else self.mask[slices],
            labels=self.labels[slices],
            row_mm=self.row_mm,
            col_mm=self.col_mm,
            positions_mm=self.positions_mm[slices],
            drift_px=self.drift_px[slices],
            source_index=self.source_index[slices],
            slice_mm=self.slice_mm,
            remarks=self.remarks,
            boxes=renumbered(self.boxes, {int(old): new for new, old in enumerate(np.flatnonzero(slices))}),
            stored=self.stored and replace(self.stored, origins_mm=self.stored.origins_mm[slices]),
        )


def canonical(
    hu: Floats,
    mask: Masks | None,
    labels: Labels,
    *,
    origins_mm: Coordinates,
    col_step_mm: Coordinates,
    row_step_mm: Coordinates,
    slice_mm: float,
    remarks: Remarks,
    boxes: Boxes | None = None,
) -> Volume:
    """Turns a stack of slices, stored in any order and orientation, into a `Volume`.

    Args:
        hu: [slice, row, col] in stored order.
        mask: The same shape, or None.
        labels: [slice, 6] in stored order.
        origins_mm: [slice, 3] position of each slice's first pixel in DICOM's patient coordinates (left, posterior,
            superior).
        col_step_mm: [3] step from one column to the next.
        row_step_mm: [3] step from one row to the next.
        slice_mm: Distance between slices by the header, or 0.
        remarks: Kept in the volume; copies of a slice are dropped and counted as duplicates.
        boxes: See `Study.boxes`.

    Raises:
        UnusableError: If the slices are not axial, a spacing or position is missing or implausible, or two different
            images have one place.
    """
    lengths = np.linalg.norm(col_step_mm), np.linalg.norm(row_step_mm)
    if not np.isfinite([*lengths, *origins_mm.ravel()]).all() or min(lengths) <= 0:
        raise UnusableError("no usable pixel spacing or position")
    if not PIXEL_MM[0] <= min(lengths) <= max(lengths) <= PIXEL_MM[1]:
        raise UnusableError(f"pixels of {lengths[0]:.3g} × {lengths[1]:.3g} mm, not {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g}")
    if abs(col_step_mm @ row_step_mm) > RIGHT_ANGLE * lengths[0] * lengths[1]:
        raise UnusableError("rows and columns that are not at right angles")
    if (plane := plane_of(col_step_mm, row_step_mm)) != "axial":
        raise UnusableError(f"the slices are not axial but {plane}; give an axial reconstruction")
    boxes = no_boxes() if boxes is None else boxes.copy()
    stored_mm, transposed = (origins_mm, row_step_mm, col_step_mm), bool(abs(col_step_mm[0]) < abs(col_step_mm[1]))
    if transposed:  # columns run front to back
        hu = hu.transpose(0, 2, 1)
        mask = None if mask is None else mask.transpose(0, 2, 1)
        boxes = boxes[:, [0, 1, 3, 2, 5, 4]]
        col_step_mm, row_step_mm = row_step_mm, col_step_mm
    flipped = bool(row_step_mm[1] < 0), bool(col_step_mm[0] < 0)
    if flipped[1]:
        hu, mask = hu[:, :, ::-1], None if mask is None else mask[:, :, ::-1]
        boxes[:, [3, 5]] = hu.shape[2] - boxes[:, [5, 3]]
        origins_mm = origins_mm + col_step_mm * (hu.shape[2] - 1)
        col_step_mm = -col_step_mm
    if flipped[0]:
        hu, mask = hu[:, ::-1], None if mask is None else mask[:, ::-1]
        boxes[:, [2, 4]] = hu.shape[1] - boxes[:, [4, 2]]
        origins_mm = origins_mm + row_step_mm * (hu.shape[1] - 1)
        row_step_mm = -row_step_mm
    col_mm, row_mm = float(np.linalg.norm(col_step_mm)), float(np.linalg.norm(row_step_mm))
    normal = np.cross(col_step_mm / col_mm, row_step_mm / row_mm)
    along = origins_mm @ (normal / np.linalg.norm(normal))
    order = np.argsort(along, kind="stable")
    order = order[_first_at_each_place(hu, along, order)]
    remarks.duplicates += len(hu) - len(order)
    relative = origins_mm[order] - origins_mm[order[0]]
    if np.linalg.norm(relative, axis=1).max() > MAX_EXTENT_MM:
        raise UnusableError(f"positions more than {MAX_EXTENT_MM:g} mm apart")
    return Volume(
        hu=hu[order],
        mask=None if mask is None else mask[order],
        labels=labels[order],
        row_mm=row_mm,
        col_mm=col_mm,
        positions_mm=along[order] - along[order[0]],
        drift_px=np.stack([relative @ row_step_mm / row_mm**2, relative @ col_step_mm / col_mm**2], axis=1),
        source_index=order.astype(np.int64),
        slice_mm=slice_mm,
        remarks=remarks,
        boxes=renumbered(boxes, {int(old): new for new, old in enumerate(order)}),
        stored=Stored(transposed, flipped, stored_mm[0][order], *stored_mm[1:]),
    )


def plane_of(col_step: Coordinates, row_step: Coordinates) -> str:
    """Name in `PLANES` of the plane of an image, from the directions [3] of its rows and columns."""
    return PLANES[int(np.argmax(np.abs(np.cross(col_step, row_step))))]


def _first_at_each_place(hu: Floats, along: Coordinates, order: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """[slice] False for the copy of a slice before it, in `order` of the positions `along` the normal.

    Raises:
        UnusableError: If two different images have one place: which of them belongs to the volume, nothing tells.
    """
    first = np.ones(len(order), bool)
    last = order[0]
    for index, current in enumerate(order[1:], start=1):
        if along[current] - along[last] > SAME_POSITION_MM:
            last = current
            continue
        if not np.array_equal(hu[current], hu[last]):
            raise UnusableError("different images at one place, and nothing in their headers tells them apart")
        first[index] = False
    return first
