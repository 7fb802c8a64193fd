"""Every figure of every slice and scan, from the values of the methods and their thresholds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam.data.prepared import LABELS, PreparedDataset
from hgisam.evaluation import metrics
from hgisam.evaluation.scans import scans_of
from hgisam.evaluation.score_maps import ScoreMaps
from hgisam.evaluation.surface_distance import hd95_mm


def predictions_table(prepared: PreparedDataset, scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """One row a slice: row, patient, study, slice_index, labels, score, bleeds."""
    table = prepared.slices[["patient", "study", "slice_index", *LABELS]].copy()
    table.insert(0, "row", np.arange(len(table)))
    table = table.merge(scores, on="row", validate="one_to_one")
    table["bleeds"] = table["score"] >= threshold
    return table


def measure_scans(
    prepared: PreparedDataset, values: ScoreMaps, thresholds: pd.DataFrame, predictions: pd.DataFrame
) -> pd.DataFrame:
    """Every figure of every slice and scan, tidy.

    Args:
        prepared, values, thresholds, predictions: As in `hgisam.evaluation.scans.scans_of`.

    Returns:
        level ("slice", "scan"), method, gated, patient, study, row (-1 for scans), metric, value. Figures of slices
        stand only for those in which something is drawn; hd95_mm is NaN where nothing was found. `gated` figures count
        a slice only where the classifier says that it bleeds.
    """
    records: list[dict[str, Any]] = []
    for scan in scans_of(prepared, values, thresholds, predictions):
        spacing = prepared.slices.iloc[scan.rows][["pixel_mm", "pixel_mm", "slice_mm"]].to_numpy()
        said = scan.slices["bleeds"].to_numpy()
        whose: dict[str, Any] = {key: scan.slices[key].iloc[0] for key in ("patient", "study")}
        for method, found in scan.masks:
            distance_mm = hd95_mm(found, scan.truth, spacing[:, 0])
            for gated in (False, True):
                stands = said | (not gated)
                kept, apart_mm = found & stands[:, None, None], np.where(stands, distance_mm, np.nan)
                base = {"method": method, "gated": gated, **whose}
                figures = _study_records(kept, scan.truth, apart_mm, spacing.prod(axis=1) / 1000, scan.rows)
                records += [base | record for record in figures]
    return pd.DataFrame(records)


def _study_records(
    found: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    apart_mm: npt.NDArray[np.float64],
    voxel_ml: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
) -> Iterator[dict[str, Any]]:
    """Figures of one study: found and truth [slice, row, col], distance of their outlines, volume of a voxel."""
    both, predicted, true = ((m).sum(axis=(1, 2)) for m in (found & truth, found, truth))
    for i in np.flatnonzero(true):
        at = {"level": "slice", "row": int(rows[i])}
        yield at | {"metric": "dice", "value": metrics.dice(both[i], predicted[i], true[i])}
        yield at | {"metric": "iou", "value": metrics.iou(both[i], predicted[i], true[i])}
        yield at | {"metric": "hd95_mm", "value": apart_mm[i]}
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
