"""Failure analysis of masks: one cause per bleeding slice, and the location and density of false positives."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import distance_transform_edt, label

from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation import metrics
from hgisam.evaluation.scans import scans_of
from hgisam.evaluation.score_maps import ScoreMaps

Mask = npt.NDArray[np.bool_]

GOOD_DICE = 0.5  # half of each mask is shared, if both are equally large
EDGE_MM = 5.0  # distance from the edge of the brain within which there are partial volume of bone and vessels
GOOD, MISSED, EMPTY, NO_OVERLAP = "good", "missed by the classifier", "empty mask", "no overlap with the bleed"
TOO_SMALL, FALSE_POSITIVES, TOO_LARGE = "too small", "false positives in other places", "too large"
CAUSES = (GOOD, MISSED, EMPTY, NO_OVERLAP, TOO_SMALL, FALSE_POSITIVES, TOO_LARGE)


def cause(mask: Mask, truth: Mask, *, detected: bool) -> str:
    """Main cause of failure of one mask of a bleeding slice.

    Args:
        mask: [row, col], predicted.
        truth: [row, col], annotated, not empty.
        detected: True if the classifier predicts that the slice bleeds.

    Returns:
        The first of `CAUSES` that fits: `GOOD`; `MISSED`, where no map could have been right; `EMPTY`; `NO_OVERLAP`;
        `TOO_SMALL`, at least as many false negative as false positive pixels; `FALSE_POSITIVES`, most false positive
        pixels are in components that don't touch the bleed; `TOO_LARGE`.
    """
    both, false_positive = mask & truth, mask & ~truth
    if metrics.dice(both.sum(), mask.sum(), truth.sum()) >= GOOD_DICE:
        return GOOD
    if not detected:
        return MISSED
    if not both.any():
        return NO_OVERLAP if mask.any() else EMPTY
    if (truth & ~mask).sum() >= false_positive.sum():
        return TOO_SMALL
    components, _ = label(mask, structure=np.ones((3, 3)))
    apart = false_positive & ~np.isin(components, np.unique(components[both]))
    return FALSE_POSITIVES if 2 * apart.sum() > false_positive.sum() else TOO_LARGE


def failures(
    prepared: PreparedDataset, score_maps: ScoreMaps, thresholds: pd.DataFrame, predictions: pd.DataFrame
) -> pd.DataFrame:
    """Cause of failure and false positives of each method on each slice.

    Args:
        prepared, score_maps, thresholds, predictions: As in `hgisam.evaluation.scans.scans_of`.

    Returns:
        One row per slice and method: method, row, patient, dice and cause (both missing where no bleed is annotated),
        false_positive_mm2 (area), false_positive_at_edge (the share within `EDGE_MM` of the edge of the brain) and
        false_positive_hu (median); the last two are missing where there is no false positive pixel.
    """
    records = []
    for scan in scans_of(prepared, score_maps, thresholds, predictions):
        detected, patient = scan.slices["bleeds"].to_numpy(), scan.slices["patient"].iloc[0]
        hu, pixel_mm = prepared.hu[scan.rows], prepared.slices["pixel_mm"].iloc[scan.rows].to_numpy()
        depth_mm = [
            distance_transform_edt(np.pad(b > 0, 1))[1:-1, 1:-1] * p for b, p in zip(scan.brain, pixel_mm, strict=True)
        ]
        for method, masks in scan.masks:
            for i, (row, mask, truth) in enumerate(zip(scan.rows, masks, scan.truth, strict=True)):
                record: dict[str, Any] = {"method": method, "row": row, "patient": patient}
                false_positive = mask & ~truth
                record["false_positive_mm2"] = false_positive.sum() * pixel_mm[i] ** 2
                if false_positive.any():
                    record["false_positive_at_edge"] = float((depth_mm[i][false_positive] <= EDGE_MM).mean())
                    record["false_positive_hu"] = float(np.median(hu[i][false_positive]))
                if truth.any():
                    record["dice"] = metrics.dice((mask & truth).sum(), mask.sum(), truth.sum())
                    record["cause"] = cause(mask, truth, detected=bool(detected[i]))
                records.append(record)
    false_positives = [f"false_positive_{key}" for key in ("mm2", "at_edge", "hu")]
    return pd.DataFrame(records, columns=["method", "row", "patient", "dice", "cause", *false_positives])
