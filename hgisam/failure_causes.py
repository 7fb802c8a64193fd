"""Why a mask is wrong: each bleeding slice sorted by one cause, and where false blood lies."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import distance_transform_edt, label

from hgisam import metrics
from hgisam.prepared import PreparedDataset, require_masks
from hgisam.segment import segment
from hgisam.values import Values, values_at

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
    prepared: PreparedDataset, values: Values, method: str, thresholds: pd.Series, predictions: pd.DataFrame
) -> pd.DataFrame:
    """Why each slice is wrong, and what lies where blood was found in vain.

    Args:
        prepared: With masks.
        values: From `read_values`.
        method: Of `candidates`.
        thresholds: One a slice of the set, a column of `thresholds_by_slice`.
        predictions: The slices, from `predictions_table`.

    Returns:
        A row a slice: row, patient, dice and cause (both missing where nothing is drawn), vain_mm2 (area found where
        nothing is drawn), vain_at_edge (the share of it within `EDGE_MM` of the brain's edge) and vain_hu (its median);
        the last two are missing where nothing was found in vain.
    """
    records = []
    for _, slices in predictions.groupby("study", sort=False):
        rows = slices["row"].to_numpy()
        brain, hu = (array.oindex[rows] for array in (prepared.brain, prepared.hu))
        truth = require_masks(prepared).oindex[rows] > 0
        found = segment(values_at(method, values, prepared, rows, brain), thresholds.iloc[rows].to_numpy(), brain)
        pixel_mm = prepared.slices["pixel_mm"].iloc[rows].to_numpy()
        for i, (patient, said) in enumerate(zip(slices["patient"], slices["bleeds"], strict=True)):
            record = {
                "row": rows[i],
                "patient": patient,
                **_in_vain(found[i] & ~truth[i], brain[i], hu[i], pixel_mm[i]),
            }
            if truth[i].any():
                record["dice"] = metrics.dice((found[i] & truth[i]).sum(), found[i].sum(), truth[i].sum())
                record["cause"] = cause(found[i], truth[i], said=bool(said))
            records.append(record)
    columns = ["row", "patient", "dice", "cause", "vain_mm2", "vain_at_edge", "vain_hu"]
    return pd.DataFrame(records, columns=columns)


def _in_vain(vain: Mask, brain: npt.NDArray[np.uint8], hu: npt.NDArray[np.int16], pixel_mm: float) -> dict[str, Any]:
    """Area, place and density of what was found in vain in one slice."""
    area = {"vain_mm2": float(vain.sum() * pixel_mm**2)}
    if not vain.any():
        return area
    depth_mm = distance_transform_edt(np.pad(brain > 0, 1))[1:-1, 1:-1] * pixel_mm
    return area | {"vain_at_edge": float((depth_mm[vain] <= EDGE_MM).mean()), "vain_hu": float(np.median(hu[vain]))}
