"""Metrics of every slice and scan, from the score maps of the methods and their thresholds."""

from typing import Any

import numpy as np
import pandas as pd

from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.metrics import dice, iou
from hgisam.evaluation.scans import scans_of
from hgisam.evaluation.score_maps import ScoreMaps
from hgisam.evaluation.surface_distance import hd95_mm


def predictions_table(prepared: PreparedDataset, scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """One row per slice: row, patient, study, slice_index, labels, score, bleeds (predicted)."""
    table = prepared.slices[["patient", "study", "slice_index", *LABELS]].copy()
    table.insert(0, "row", np.arange(len(table)))
    table = table.merge(scores, on="row", validate="one_to_one")
    table["bleeds"] = table["score"] >= threshold
    return table


def measure_scans(
    prepared: PreparedDataset, score_maps: ScoreMaps, thresholds: pd.DataFrame, predictions: pd.DataFrame
) -> pd.DataFrame:
    """Metrics of every slice and scan; arguments as in `hgisam.evaluation.scans.scans_of`.

    Returns:
        method, gated, patient, study, level ("slice", "scan"), row (-1 for scans), metric, value. Slices only where the
        ground truth is not empty; hd95_mm is NaN where the mask is. Gated masks are empty where the classifier predicts
        no bleeding.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from pathlib import Path
        >>> slices = pd.DataFrame({"patient": ["a"], "study": ["s"], "pixel_mm": 1.0, "slice_mm": 5.0})
        >>> mask = np.tri(8, dtype=np.uint8)[None]
        >>> data = PreparedDataset(Path("set"), {}, slices, 30 + 40 * mask, np.ones_like(mask), mask)
        >>> thresholds, predictions = pd.DataFrame({"hu_threshold": [50.0]}), slices.assign(row=0, bleeds=True)
        >>> measure_scans(data, {}, thresholds, predictions)["metric"].unique().tolist()
        ['dice', 'iou', 'hd95_mm', 'volume_ml', 'volume_error_ml']
    """
    records: list[dict[str, Any]] = []
    for scan in scans_of(prepared, score_maps, thresholds, predictions):
        spacing = prepared.slices.iloc[scan.rows][["pixel_mm", "pixel_mm", "slice_mm"]].to_numpy()
        voxel_ml, true = spacing.prod(axis=1) / 1000, scan.truth.sum(axis=(1, 2))
        positive = scan.slices["bleeds"].to_numpy()
        names = {key: scan.slices[key].iloc[0] for key in ("patient", "study")}
        for method, mask in scan.masks:
            distance_mm = hd95_mm(mask, scan.truth, spacing[:, 0])
            for gated in (False, True):
                kept = positive | (not gated)
                both, predicted = (m.sum(axis=(1, 2)) * kept for m in (mask & scan.truth, mask))
                base = {"method": method, "gated": gated, **names}
                for i in np.flatnonzero(true):
                    found = _overlap(both[i], predicted[i], true[i])
                    found["hd95_mm"] = distance_mm[i] if kept[i] else np.nan
                    records += _records({**base, "level": "slice", "row": int(scan.rows[i])}, found)
                found = _of_scan(*((pixels * voxel_ml).sum() for pixels in (both, predicted, true)))
                records += _records({**base, "level": "scan", "row": -1}, found)
    return pd.DataFrame(records)


def _records(base: dict[str, Any], found: dict[str, float]) -> list[dict[str, Any]]:
    return [{**base, "metric": metric, "value": value} for metric, value in found.items()]


def _overlap(both: float, predicted: float, true: float) -> dict[str, float]:
    return {"dice": dice(both, predicted, true), "iou": iou(both, predicted, true)}


def _of_scan(both_ml: float, predicted_ml: float, true_ml: float) -> dict[str, float]:
    if true_ml > 0:
        overlap = _overlap(both_ml, predicted_ml, true_ml)
        return {"volume_ml": true_ml, **overlap, "volume_error_ml": predicted_ml - true_ml}
    return {"volume_ml": true_ml, "false_positive_ml": predicted_ml}
