"""How well does it detect, how well does it segment, and how sure can we be?"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam import metrics
from hgisam.errors import InputError
from hgisam.prepared import LABELS, SUBTYPES, PreparedDataset, require_masks
from hgisam.segment import HU_GRID, best_threshold, dice_curve, segment, smoothed_hu, threshold_grid

log = logging.getLogger(__name__)

FLOORS = ("hu_threshold", "smooth_hu_threshold")  # what every map has to beat: no network, only HU inside the brain


def _values(
    name: str, maps: Any, prepared: PreparedDataset, rows: npt.NDArray[np.int64], brain: npt.NDArray[np.uint8]
) -> npt.NDArray[np.floating]:
    """What method `name` thresholds on these rows, whose brain masks are given: its map, or HU for the floors."""
    values: npt.NDArray[np.floating] = (prepared.hu if name in FLOORS else maps[name]).oindex[rows]
    if name == "smooth_hu_threshold":
        return smoothed_hu(values, brain, float(prepared.slices["pixel_mm"].iloc[0]))
    return values.astype(np.float32)


def choose_thresholds(
    prepared: PreparedDataset, maps: Any, methods: Sequence[str], *, count: int
) -> dict[str, dict[str, Any]]:
    """For each method, the threshold with the best mean Dice over the bleeding slices of the validation patients.

    Args:
        prepared: With masks.
        maps: Name → array [slice, row, col] in [0, 1], rows as in `prepared`.
        methods: Names; `FLOORS` threshold HU inside the brain mask, as it is and smoothed.
        count: Thresholds tried for maps.

    Raises:
        InputError: If there are no masks, or no validation slice bleeds.
    """
    mask = require_masks(prepared)
    rows = prepared.rows("val")
    truth = mask.oindex[rows] > 0
    rows, truth = rows[truth.any(axis=(1, 2))], truth[truth.any(axis=(1, 2))]
    if not len(rows):
        remedy = "Prepare more patients, or another data.validation_fraction."
        raise InputError(f"validation patients of {prepared.path.name}", "no bleeding slice", "at least one", remedy)
    brain = prepared.brain.oindex[rows]
    chosen = {}
    for name in methods:
        grid = HU_GRID if name in FLOORS else threshold_grid(count)
        chosen[name] = best_threshold(dice_curve(_values(name, maps, prepared, rows, brain), truth, brain, grid), grid)
    return chosen


def predictions_table(prepared: PreparedDataset, scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """One row a slice: row, patient, study, slice_index, labels, score, bleeds."""
    table = prepared.slices[["patient", "study", "slice_index", *LABELS]].copy()
    table.insert(0, "row", np.arange(len(table)))
    table = table.merge(scores, on="row", validate="one_to_one")
    table["bleeds"] = table["score"] >= threshold
    return table


def measure(
    prepared: PreparedDataset, maps: Any, thresholds: Mapping[str, float], predictions: pd.DataFrame
) -> pd.DataFrame:
    """Every figure of every slice and scan, tidy.

    Args:
        prepared: With masks.
        maps: Name → array [slice, row, col].
        thresholds: Method → threshold.
        predictions: The slices to measure, from `predictions_table`.

    Returns:
        level ("slice", "scan"), method, gated, patient, study, row (-1 for scans), metric, value. Dice and IoU of
        slices stand only for those that bleed; `gated` figures count a slice only where the classifier says that it
        bleeds.
    """
    records: list[dict[str, Any]] = []
    for study, slices in predictions.groupby("study", sort=False):
        rows = slices["row"].to_numpy()
        truth = require_masks(prepared).oindex[rows] > 0
        brain = prepared.brain.oindex[rows]
        voxel_ml = prepared.slices.iloc[rows][["pixel_mm", "pixel_mm", "slice_mm"]].prod(axis=1).to_numpy() / 1000
        for method, threshold in thresholds.items():
            found = segment(_values(method, maps, prepared, rows, brain), threshold, brain)
            for gated in (False, True):
                kept = found & slices["bleeds"].to_numpy()[:, None, None] if gated else found
                base = {"method": method, "gated": gated, "patient": slices["patient"].iloc[0], "study": study}
                records += [base | record for record in _study_records(kept, truth, voxel_ml, rows)]
    return pd.DataFrame(records)


def _study_records(
    found: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    voxel_ml: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
) -> Iterator[dict[str, Any]]:
    """Figures of one study: found and truth [slice, row, col], volume of a voxel in each slice."""
    both, predicted, true = ((m).sum(axis=(1, 2)) for m in (found & truth, found, truth))
    for i in np.flatnonzero(true):
        at = {"level": "slice", "row": int(rows[i])}
        yield at | {"metric": "dice", "value": metrics.dice(both[i], predicted[i], true[i])}
        yield at | {"metric": "iou", "value": metrics.iou(both[i], predicted[i], true[i])}
    at = {"level": "scan", "row": -1}
    volume_ml, predicted_ml = (true * voxel_ml).sum(), (predicted * voxel_ml).sum()
    yield at | {"metric": "volume_ml", "value": volume_ml}
    if volume_ml > 0:
        scan = (both * voxel_ml).sum(), predicted_ml, volume_ml
        yield at | {"metric": "dice", "value": metrics.dice(*scan)}
        yield at | {"metric": "iou", "value": metrics.iou(*scan)}
        yield at | {"metric": "volume_error_ml", "value": predicted_ml - volume_ml}
    else:
        yield at | {"metric": "false_positive_ml", "value": predicted_ml}


def summarise(
    predictions: pd.DataFrame,
    measured: pd.DataFrame | None,
    thresholds: Mapping[str, float],
    *,
    detection_threshold: float,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """The figures that a run is known by, each measured value as {"mean", "ci95"} with intervals over patients.

    Args:
        predictions: From `predictions_table`, the slices that were measured.
        measured: From `measure`, or None for a set without masks: then only detection is summarised.
        thresholds: Method → threshold.
        detection_threshold: Score at and above which a slice is said to bleed.
        bootstrap: Samples of patients.
        seed: Of the bootstrap.
    """
    options: dict[str, Any] = {"count": bootstrap, "generator": np.random.default_rng(seed)}
    summary: dict[str, Any] = {
        "detection": {"swin": metrics.detection(predictions, detection_threshold, **options)},
        "segmentation": {},
        "comparisons": [],
    }
    if measured is None:
        return summary
    labelled = measured.merge(predictions[["row", *SUBTYPES]], on="row", how="left")
    for method, threshold in thresholds.items():
        mine = labelled[labelled["method"] == method]
        summary["segmentation"][method] = {"threshold": threshold, **_segmentation(mine, options)}
    slice_dice = measured[(measured["level"] == "slice") & (measured["metric"] == "dice") & ~measured["gated"]]
    per_patient = slice_dice.groupby(["method", "patient"])["value"].mean()
    for a, b in combinations(thresholds, 2) if not slice_dice.empty else ():
        result = metrics.compare(per_patient[a], per_patient[b], **options)
        summary["comparisons"].append({"a": a, "b": b, "metric": "dice_slice", **result})
    return summary


def _segmentation(mine: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one method; see `summarise`."""

    def estimate(chosen: pd.DataFrame) -> metrics.Estimate:
        return metrics.bootstrap_mean(chosen["value"], chosen["patient"], **options)

    figures: dict[str, Any] = {}
    for gated, suffix in ((False, ""), (True, "_gated")):
        part = mine[mine["gated"] == gated]

        def of(level: str, metric: str, part: pd.DataFrame = part) -> pd.DataFrame:
            return part[(part["level"] == level) & (part["metric"] == metric)]

        slices = of("slice", "dice")
        figures |= {
            f"dice_slice{suffix}": estimate(slices),
            f"iou_slice{suffix}": estimate(of("slice", "iou")),
            f"dice_scan{suffix}": estimate(of("scan", "dice")),
            f"dice_by_type{suffix}": {name: estimate(slices[slices[name] == 1]) for name in SUBTYPES},
            f"volume_error_ml{suffix}": estimate(of("scan", "volume_error_ml")),
            f"false_positive_ml{suffix}": estimate(of("scan", "false_positive_ml")),
        }
        figures["n_slices"], figures["n_scans"] = len(slices), len(of("scan", "dice"))
        figures["n_slices_by_type"] = {name: int((slices[name] == 1).sum()) for name in SUBTYPES}
        figures["n_scans_negative"] = len(of("scan", "false_positive_ml"))
    return figures
