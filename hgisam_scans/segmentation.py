"""Segmentation of one scan, on its own grid."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_prep.folder import read_study
from data_prep.grid import to_native
from data_prep.raw_folder import first_names
from data_prep.study import Settings, prepare_volume
from data_prep.volume import Stored, UnusableError, Volume
from hgisam.data.labels import MASK_VALUES, SUBTYPES
from hgisam.errors import InputError
from hgisam.evaluation.masks import apply_threshold
from hgisam_scans.candidates import find_scans
from hgisam_scans.networks import Network, interval_of, load_networks
from hgisam_scans.segmented_scan import Maps, Masks, Prepared, SegmentedScan
from hgisam_scans.series_choice import Choice, by_study, choose_series
from hgisam_scans.trust import doubts, measure_scan

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def segment(
    scan: str | Path, checkpoint: str | Path | Sequence[str | Path] = "phantom-binary", *, method: str | None = None,
    threshold: float | None = None, series: str | int | None = None, gate: bool = True,
) -> SegmentedScan:  # fmt: skip
    """Segment intracranial hemorrhage in a head CT. For research and teaching only, never for diagnosis.

    Args:
        scan: A NIfTI file, a DICOM folder, file or DICOMDIR of one study.
        checkpoint: Name of a shipped checkpoint, folder of a training or a run; several for an ensemble.
        method: Of a classifier, see `hgisam_scans.networks.load_networks`.
        threshold: Of the score map; by default the one chosen for the checkpoint.
        series: Number or SeriesInstanceUID; by default the best one for this job is chosen.
        gate: Slices that the classifier does not predict to bleed have no mask.

    Returns:
        The scan with its mask on the grid of its files.

    Raises:
        InputError: If the scan cannot be read, holds several studies, or the checkpoint or its threshold is missing.
    """
    found = find_scans(scan)
    studies = by_study(found.candidates)
    if len(studies) > 1:
        remedy = "Give the folder of one, or segment all of them: hgisam segment --batch."
        raise InputError(f"scan {scan}", f"{len(studies)} studies", "one", remedy)
    if series == "all":
        raise InputError("series", "all", "a number or a SeriesInstanceUID", "Call it once for each series.")
    networks = load_networks(checkpoint, method=method, threshold=threshold)
    choice = choose_series(studies[0], series)[0]._replace(skipped=tuple(found.skipped))
    return segment_series(choice, networks, gate=gate)


def segment_series(choice: Choice, networks: Sequence[Network], *, gate: bool = True) -> SegmentedScan:
    """Segment a chosen series; arguments as in `segment`.

    Raises:
        InputError: If the series cannot be read.
    """
    chosen = choice.chosen
    try:
        volume = read_study(chosen.raw, chosen.study)
    except UnusableError as error:
        reasons = dict.fromkeys(why for _, why in error.remarks.skipped)
        got = f"{error}{f' ({first_names(list(reasons), 3)})' if reasons else ''}"
        expected = "an axial head CT in HU"
        raise InputError(chosen.name, got, expected, "Choose another series: --series, or fix it.") from None
    return segment_volume(volume, choice, networks, gate=gate)


def segment_volume(
    volume: Volume, choice: Choice, networks: Sequence[Network], *, gate: bool = True
) -> SegmentedScan:  # fmt: skip
    """Segment a scan that was read already; others as in `segment_series`."""
    px, field_mm = networks[0].grid
    arrays, rows, statistics = prepare_volume(volume, Settings("folder", px, field_mm, labelled=False))
    hu, brain = arrays["hu"], arrays["brain"]
    members = [network.predict(hu, brain, rows) for network in networks]
    maps, scores = (np.mean([member[part] for member in members], axis=0) for part in (0, 1))
    threshold, detection = (
        float(np.mean([getattr(network, name) for network in networks]))
        for name in ("threshold", "detection_threshold")
    )
    bleeds = scores >= detection
    shown = bleeds if gate else np.ones(len(scores), bool)
    kinds = _subtypes(networks[0], hu, brain, shown) if networks[0].knows_subtypes else None
    native = on_native_grid(volume, rows, maps, brain, threshold, shown, kinds)
    ml = volume_ml(native.mask, volume, rows)
    by_subtype = {}
    if native.subtypes is not None:
        by_subtype = {name: volume_ml(native.subtypes == MASK_VALUES[name], volume, rows) for name in SUBTYPES}
    measured = measure_scan(volume, hu, brain, rows, statistics)
    calibration = networks[0].calibration
    found = doubts(volume, measured, calibration.reference if calibration else None)
    interval = interval_of(networks)
    order, stored = _order(volume, choice), volume.stored
    assert stored is not None  # every reader gives it
    return SegmentedScan(
        mask=stored.pixels(native.mask)[order], map=stored.pixels(native.map)[order],
        subtypes=None if native.subtypes is None else stored.pixels(native.subtypes)[order],
        scores=scores[order], bleeds=bleeds[order], ml=ml, ml_by_subtype=by_subtype,
        interval_ml=interval.of(ml) if interval else None,
        spread_ml=_spread_ml(networks, members, brain, rows, gate=gate) if len(networks) > 1 else None,
        spacing=(float(rows["slice_mm"].median()), *_stored_spacing(stored)),
        positions_mm=volume.positions_mm[order], affine=_affine(stored, volume), doubts=tuple(found), measured=measured,
        remarks=tuple(_remarks(volume, choice, statistics)), skipped=(*choice.skipped, *volume.remarks.skipped),
        choice=choice, networks=tuple(networks), gated=gate, sources=_sources(volume, choice, order),
        prepared=Prepared(
            hu[order], brain[order], maps[order],
            (apply_threshold(maps, threshold, brain) & shown[:, None, None]).astype(np.uint8)[order],
            rows.iloc[order].reset_index(drop=True),
        ),
    )  # fmt: skip


class Native(NamedTuple):
    """Arrays [slice, row, col] on the native pixels, in the canonical orientation."""

    mask: Masks
    map: Maps
    subtypes: Masks | None


def on_native_grid(
    volume: Volume, rows: pd.DataFrame, maps: npt.NDArray[np.float32], brain: Masks, threshold: float,
    shown: npt.NDArray[np.bool_], evidence: npt.NDArray[np.float32] | None = None,
) -> Native:  # fmt: skip
    """Map, mask and subtypes on the native pixels: the map is interpolated, then its threshold taken there.

    Args:
        volume: The scan as read.
        rows: Of `data_prep.study.prepare_volume`.
        maps, brain: [slice, px, px] on the prepared grid.
        threshold: Of the maps.
        shown: [slice] False where the slice has no mask.
        evidence: [subtype, slice, px, px] for the subtypes, or None.
    """
    first = rows[["native_row0", "native_col0"]].to_numpy()
    steps = float(rows["native_step_row"].iloc[0]), float(rows["native_step_col"].iloc[0])
    count, *shape = volume.hu.shape
    size = int(shape[0]), int(shape[1])
    inside = to_native(brain.astype(np.float32), first, steps, size)
    found = Native(
        np.zeros((count, *size), np.uint8), np.zeros((count, *size), np.float16),
        None if evidence is None else np.zeros((count, *size), np.uint8),
    )  # fmt: skip
    values = np.array([MASK_VALUES[name] for name in SUBTYPES], np.uint8)
    for index, (map_, within) in enumerate(zip(to_native(maps, first, steps, size), inside, strict=True)):
        found.map[index] = map_
        if not shown[index]:
            continue
        mask = (map_ >= threshold) & (within >= 0.5)
        found.mask[index] = mask
        if evidence is not None and found.subtypes is not None and mask.any():
            at, kinds = np.repeat(first[index : index + 1], len(SUBTYPES), axis=0), evidence[:, index]
            largest = np.argmax(list(to_native(kinds, at, steps, size)), axis=0)
            found.subtypes[index] = np.where(mask, values[largest], 0)
    return found


def volume_ml(mask: npt.NDArray[Any], volume: Volume, rows: pd.DataFrame) -> float:
    """Volume of a mask [slice, row, col] on the native pixels; others as in `on_native_grid`."""
    pixel_ml = volume.row_mm * volume.col_mm * rows["slice_mm"].to_numpy() / 1000
    return float((mask > 0).sum(axis=(1, 2)) @ pixel_ml)


def _subtypes(
    network: Network, hu: npt.NDArray[np.int16], brain: Masks, shown: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Evidence [subtype, slice, px, px] for the subtypes; 0 in slices that have no mask."""
    evidence = np.zeros((len(SUBTYPES), *hu.shape), np.float32)
    if shown.any():
        evidence[:, shown] = network.subtypes(hu[shown], brain[shown])
    return evidence


def _spread_ml(
    networks: Sequence[Network], members: Sequence[tuple[Any, Any]], brain: Masks, rows: pd.DataFrame, *, gate: bool
) -> float:
    """Standard deviation of the volumes of the members, each with its own thresholds, on the prepared grid."""
    pixel_ml = rows["pixel_mm"].to_numpy() ** 2 * rows["slice_mm"].to_numpy() / 1000
    volumes = []
    for network, (maps, scores) in zip(networks, members, strict=True):
        masks = apply_threshold(maps, network.threshold, brain)
        kept = scores >= network.detection_threshold if gate else np.ones(len(scores), bool)
        volumes.append(float(masks.sum(axis=(1, 2)) @ (pixel_ml * kept)))
    return float(np.std(volumes, ddof=1))


def _order(volume: Volume, choice: Choice) -> npt.NDArray[np.int64]:
    """Indices that put the slices of a volume into the order of its file; DICOM slices stay sorted by position."""
    return np.argsort(volume.source_index) if choice.chosen.kind == "NIfTI" else np.arange(len(volume.hu))


def _stored_spacing(stored: Stored) -> tuple[float, float]:
    """Distance of stored rows, and of stored columns."""
    return float(np.linalg.norm(stored.row_step_mm)), float(np.linalg.norm(stored.col_step_mm))


def _affine(stored: Stored, volume: Volume) -> npt.NDArray[np.float64]:
    """Voxel (col, row, slice) of the stored slices, sorted by position, to RAS mm."""
    origins = stored.origins_mm
    along = np.cross(stored.col_step_mm, stored.row_step_mm)
    alone = along / np.linalg.norm(along) * (volume.slice_mm or 1.0)
    step = (origins[-1] - origins[0]) / (len(origins) - 1) if len(origins) > 1 else alone
    affine = np.eye(4)
    affine[:3] = np.stack([stored.col_step_mm, stored.row_step_mm, step, origins[0]], axis=1) * LPS_TO_RAS[:, None]
    return affine


def _sources(volume: Volume, choice: Choice, order: npt.NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
    """File and frame of each slice."""
    study = choice.chosen.study
    if choice.chosen.kind == "NIfTI":
        return tuple((study.files[0], int(index)) for index in volume.source_index[order])
    return tuple((study.files[index], study.frames[index]) for index in volume.source_index[order])


FIXES = {  # entry of the reader's remarks → what it means for the result
    "padding": "values outside of the scanned field were set to air",
    "not_finite": "values that are no numbers were set to air",
    "orientation_assumed": "the file has no orientation: it was read as right to left, back to front, bottom to top",
    "axes": "the file is stored along another axis: its axial slices were read",
    "slice_mm_assumed": "the distance of slices is unknown: 5 mm were assumed, the volume depends on it",
}


def _remarks(volume: Volume, choice: Choice, statistics: dict[str, Any]) -> list[str]:
    """What was fixed, assumed, skipped or is uneven, in sentences without names of files."""
    remarks = [FIXES[name] for name in volume.remarks.fixes if name in FIXES]
    if not choice.chosen.study.patient_known and choice.chosen.kind == "DICOM":
        remarks.append("the images have no patient id, or one that names nobody: the study was read by its own id")
    if volume.remarks.duplicates:
        remarks.append(f"{volume.remarks.duplicates} copies of images were left out")
    reasons = Counter(why for _, why in (*choice.skipped, *volume.remarks.skipped))
    remarks += [f"files skipped: {count}, {why}" for why, count in reasons.items()]
    if abs(statistics["tilt_deg"]) >= 0.5:
        remarks.append(f"the gantry was tilted by {statistics['tilt_deg']:.1f}°; the mask follows the tilted slices")
    if statistics["widest_gap"] > 1.2:
        gaps = np.diff(volume.positions_mm)
        steps = f"{gaps.min():.3g} to {gaps.max():.3g} mm"
        remarks.append(f"slices are {steps} apart: each counts with its distance to the next")
    return remarks
