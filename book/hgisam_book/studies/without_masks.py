"""Masks at thresholds that no annotated mask chose: rules, and constants of the refinement from slice labels."""

import numpy as np
import pandas as pd

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.evaluation.masks import dice_curve
from hgisam.evaluation.score_maps import MASK_GRID, MASK_RULES, ScoreMaps, score_maps_at
from hgisam_book.studies.method_comparison import Rows
from hgisam_book.studies.refinement import PSEUDO_THRESHOLD

FIXED_THRESHOLDS = {  # method → threshold, and where it is from
    **{name: (float(MASK_GRID[0]), "rule") for name in MASK_RULES},
    "density_alone": (0.5, "density threshold from slice labels"),  # of the logistic function: at the threshold itself
    "hgi_sam_density": (PSEUDO_THRESHOLD, "that of the pseudo-masks"),
    "hgi_sam_self_trained": (0.5, "half of a probability"),
}


def dice_without_masks(prepared: PreparedDataset, score_maps: ScoreMaps, rows: Rows) -> pd.DataFrame:
    """Dice of bleeding slices at the thresholds of `FIXED_THRESHOLDS`.

    Args:
        prepared: With masks, which are read for the Dice alone.
        score_maps: From `read_score_maps`; methods that they lack are left out.
        rows: [n] bleeding slices.

    Returns:
        One row per method and slice: method, patient, row, dice.
    """
    brain, truth = prepared.brain[rows], require_masks(prepared)[rows] > 0
    patient = prepared.slices["patient"].iloc[rows].to_numpy()
    parts = []
    for name, (threshold, _) in FIXED_THRESHOLDS.items():
        if (MASK_RULES[name][0] if name in MASK_RULES else name) in score_maps:
            given = score_maps_at(name, score_maps, prepared, rows, brain)
            dice = dice_curve(given, truth, brain, np.array([threshold]))[:, 0]
            parts.append(pd.DataFrame({"method": name, "patient": patient, "row": rows, "dice": dice}))
    columns = ["method", "patient", "row", "dice"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
