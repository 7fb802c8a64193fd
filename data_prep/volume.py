"""A study in memory, in the one orientation that everything downstream knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Coordinates = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Masks = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int8]
Boxes = npt.NDArray[np.float64]  # [box, 6] slice, value of MASK_VALUES, then edges in pixels: row0, col0, row1, col1

AIR_HU = -1024  # the lowest value kept; stands for everything outside the image
SAME_POSITION_MM = 0.01
PIXEL_MM = (0.05, 10.0)  # what the pixels of a head CT can measure; others were given in another unit
NOT_SAID = "not said"


def no_boxes() -> Boxes:
    """An empty list of boxes."""
    return np.zeros((0, 6))


def renumbered(boxes: Boxes, places: Mapping[int, int]) -> Boxes:
    """The boxes of the slices that are in `places`, each with its slice's new number there."""
    kept = boxes[[int(slice_) in places for slice_ in boxes[:, 0]]]
    return np.column_stack([[places[int(slice_)] for slice_ in kept[:, 0]], kept[:, 1:]]) if len(kept) else no_boxes()


@dataclass(frozen=True)
class Study:
    """What a reader lists: where a study's files are, and the labels of its slices in the order of the files.

    Attributes:
        patient: Public id.
        study: Public id, unique in the set.
        files: Paths relative to the raw folder.
        labels: [slice, 6] 0 or 1 in the order of `hgisam.data.prepared.LABELS`; -1 for what nobody said: all of a slice
            without labels, the subtypes of one that is only known to bleed.
        mend_intercept: Undo the wrong intercept that some images of RSNA 2019 have.
        boxes: Drawn around bleeds, in the order and the pixels of the files; edges count from that of the first pixel.
        brain: File of its brain mask, where one is imported.
    """

    patient: str
    study: str
    files: tuple[str, ...]
    labels: Labels
    mend_intercept: bool = False
    boxes: Boxes = field(default_factory=no_boxes)
    brain: Path | None = None


@dataclass
class Remarks:
    """What happened while a study was read.

    Attributes:
        skipped: (file, reason) of what was left out.
        mended: Defect → how many files or slices of the study had it.
        duplicates: Images left out because another of the series lies at the same place.
        unlabelled: Images without labels.
        disagreements: Slices whose label and mask contradict each other, by kind.
        vendor: Who built the scanner, where the header says so.
    """

    skipped: list[tuple[str, str]] = field(default_factory=list)
    mended: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    unlabelled: list[str] = field(default_factory=list)
    disagreements: dict[str, int] = field(default_factory=dict)
    vendor: str = NOT_SAID


class UnusableError(Exception):
    """A file or study that cannot be used: goes into the report with its reason, and never stops a run.

    Args:
        reason: One line, without paths.
        remarks: What was noted about the study before.
    """

    def __init__(self, reason: str, remarks: Remarks | None = None) -> None:
        self.remarks = remarks or Remarks()
        super().__init__(reason)


@dataclass
class Volume:
    """A study: slice 0 is the lowest, row 0 anterior, col 0 the patient's right.

    Attributes:
        hu: [slice, row, col].
        mask: [slice, row, col] values of `hgisam.data.prepared.MASK_VALUES`, or None where the set has no masks.
        labels: [slice, 6], see `Study.labels`.
        row_mm: Distance between rows.
        col_mm: Distance between columns.
        positions_mm: [slice] along the normal of the slices, 0 for the lowest.
        drift_px: [slice, 2] (row, col) by which a slice's first pixel is displaced against that of the lowest slice;
            not zero where the gantry was tilted.
        source_index: [slice] index in the source's own order.
        slice_mm: Distance between slices that the header gives, 0 where it gives none.
        remarks: For the report.
        boxes: Drawn around bleeds, as `Study.boxes`, in the order and orientation of `hu`.
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

    def keep(self, slices: npt.NDArray[np.bool_]) -> "Volume":
        """The study with only some of its slices."""
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
        hu: [slice, row, col] as stored.
        mask: The same, or None.
        labels: [slice, 6] as stored.
        origins_mm: [slice, 3] place of each slice's first pixel in DICOM's patient system (left, posterior, superior).
        col_step_mm: [3] step from one column to the next.
        row_step_mm: [3] step from one row to the next.
        slice_mm: Distance between slices that the header gives, or 0.
        remarks: Taken over; slices at a place that is taken already are left out and counted there.
        boxes: As stored, see `Study.boxes`.

    Raises:
        UnusableError: If the slices are not axial, or a length is missing.
    """
    lengths = np.linalg.norm(col_step_mm), np.linalg.norm(row_step_mm)
    if not np.isfinite([*lengths, *origins_mm.ravel()]).all() or min(lengths) <= 0:
        raise UnusableError("no usable pixel spacing or position")
    if not PIXEL_MM[0] <= min(lengths) <= max(lengths) <= PIXEL_MM[1]:
        raise UnusableError(f"pixels of {lengths[0]:.3g} × {lengths[1]:.3g} mm, not {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g}")
    if np.argmax(np.abs(np.cross(col_step_mm, row_step_mm))) != 2:
        raise UnusableError("the slices are not axial")
    boxes = no_boxes() if boxes is None else boxes.copy()
    if abs(col_step_mm[0]) < abs(col_step_mm[1]):  # columns run front to back
        hu = hu.transpose(0, 2, 1)
        mask = None if mask is None else mask.transpose(0, 2, 1)
        boxes = boxes[:, [0, 1, 3, 2, 5, 4]]
        col_step_mm, row_step_mm = row_step_mm, col_step_mm
    if col_step_mm[0] < 0:
        hu, mask = hu[:, :, ::-1], None if mask is None else mask[:, :, ::-1]
        boxes[:, [3, 5]] = hu.shape[2] - boxes[:, [5, 3]]
        origins_mm = origins_mm + col_step_mm * (hu.shape[2] - 1)
        col_step_mm = -col_step_mm
    if row_step_mm[1] < 0:
        hu, mask = hu[:, ::-1], None if mask is None else mask[:, ::-1]
        boxes[:, [2, 4]] = hu.shape[1] - boxes[:, [4, 2]]
        origins_mm = origins_mm + row_step_mm * (hu.shape[1] - 1)
        row_step_mm = -row_step_mm
    col_mm, row_mm = float(np.linalg.norm(col_step_mm)), float(np.linalg.norm(row_step_mm))
    normal = np.cross(col_step_mm / col_mm, row_step_mm / row_mm)
    along = origins_mm @ (normal / np.linalg.norm(normal))
    order = np.argsort(along, kind="stable")
    first = np.concatenate([[True], np.diff(along[order]) > SAME_POSITION_MM])
    remarks.duplicates += int((~first).sum())
    order = order[first]
    relative = origins_mm[order] - origins_mm[order[0]]
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
    )
