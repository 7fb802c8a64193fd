"""Why a mask is wrong: each bleeding slice sorted by one cause, and where false blood lies."""

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

GOOD_DICE = 0.5  # half of each is shared, if both are equally large
EDGE_MM = 5.0  # what lies closer to the brain's edge is where bone blurs and vessels run
GOOD, MISSED, EMPTY, BESIDE = "good", "not said to bleed", "empty mask", "beside the bleed"
TOO_SMALL, ELSEWHERE, TOO_LARGE = "too small", "elsewhere too", "too large"
CAUSES = (GOOD, MISSED, EMPTY, BESIDE, TOO_SMALL, ELSEWHERE, TOO_LARGE)


def cause(found: Mask, truth: Mask, *, said: bool) -> str:
    """What is wrong first of all with one mask of a slice that bleeds.

    Args:
        found: [row, col], the method's.
        truth: [row, col], the drawn one, not empty.
        said: Whether the classifier says that the slice bleeds.

    Returns:
        Of `CAUSES`, the first that fits: `GOOD`; `MISSED`, where no map could have been right; `EMPTY`; `BESIDE`, no
        pixel is shared; `TOO_SMALL`, at least as much is missed as is found in vain; `ELSEWHERE`, most of what is found
        in vain belongs to pieces that don't touch the bleed; `TOO_LARGE`.
    """
    both, vain = found & truth, found & ~truth
    if metrics.dice(both.sum(), found.sum(), truth.sum()) >= GOOD_DICE:
        return GOOD
    if not said:
        return MISSED
    if not both.any():
        return BESIDE if found.any() else EMPTY
    if (truth & ~found).sum() >= vain.sum():
        return TOO_SMALL
    pieces, _ = label(found, structure=np.ones((3, 3)))
    apart = vain & ~np.isin(pieces, np.unique(pieces[both]))
    return ELSEWHERE if 2 * apart.sum() > vain.sum() else TOO_LARGE


def failures(
    prepared: PreparedDataset, values: ScoreMaps, thresholds: pd.DataFrame, predictions: pd.DataFrame
) -> pd.DataFrame:
    """Why each slice is wrong by each method, and what lies where blood was found in vain.

    Args:
        prepared, values, thresholds, predictions: As in `hgisam.evaluation.scans.scans_of`.

    Returns:
        A row a slice and method: method, row, patient, dice and cause (both missing where nothing is drawn), vain_mm2
        (area found where nothing is drawn), vain_at_edge (the share of it within `EDGE_MM` of the brain's edge) and
        vain_hu (its median); the last two are missing where nothing was found in vain.
    """
    records = []
    for scan in scans_of(prepared, values, thresholds, predictions):
        said, patient = scan.slices["bleeds"].to_numpy(), scan.slices["patient"].iloc[0]
        hu, pixel_mm = prepared.hu[scan.rows], prepared.slices["pixel_mm"].iloc[scan.rows].to_numpy()
        depth_mm = [
            distance_transform_edt(np.pad(b > 0, 1))[1:-1, 1:-1] * p for b, p in zip(scan.brain, pixel_mm, strict=True)
        ]
        for method, masks in scan.masks:
            for i, (row, found, truth) in enumerate(zip(scan.rows, masks, scan.truth, strict=True)):
                vain = found & ~truth
                record = {"method": method, "row": row, "patient": patient}
                record |= _in_vain(vain, depth_mm[i], hu[i]) | {"vain_mm2": vain.sum() * pixel_mm[i] ** 2}
                if truth.any():
                    record["dice"] = metrics.dice((found & truth).sum(), found.sum(), truth.sum())
                    record["cause"] = cause(found, truth, said=bool(said[i]))
                records.append(record)
    columns = ["method", "row", "patient", "dice", "cause", "vain_mm2", "vain_at_edge", "vain_hu"]
    return pd.DataFrame(records, columns=columns)


def _in_vain(vain: Mask, depth_mm: npt.NDArray[np.floating], hu: npt.NDArray[np.int16]) -> dict[str, Any]:
    """Place and density of what was found in vain in one slice, if anything was."""
    if not vain.any():
        return {}
    return {"vain_at_edge": float((depth_mm[vain] <= EDGE_MM).mean()), "vain_hu": float(np.median(hu[vain]))}
