"""Thresholds by cross-validation: each is chosen on other patients than those it is used for."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.masks import Curves, Masks, best_threshold, dice_curve
from hgisam.evaluation.score_maps import Rows, ScoreMaps, grid_for, score_maps_at


def choose_thresholds(
    prepared: PreparedDataset, score_maps: ScoreMaps, methods: Iterable[str], *, count: int
) -> dict[str, dict[str, Any]]:
    """For each method and fold, the threshold with the best mean Dice over the bleeding slices of the next with any.

    Args:
        prepared: With masks and at least three folds.
        score_maps: From `read_score_maps`.
        methods: Of `candidates`.
        count: Candidate thresholds of maps.

    Returns:
        Method → see `best_threshold`, over all patients, for external validation; and folds: the threshold of each.

    Raises:
        InputError: If there are no masks, fewer than three folds, or fewer than two with a bleeding slice.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from pathlib import Path
        >>> mask = np.tri(8, dtype=np.uint8)[None].repeat(3, axis=0)
        >>> slices = pd.DataFrame({"patient": list("abc"), "fold": range(3), "pixel_mm": 1.0})
        >>> data = PreparedDataset(Path("set"), {}, slices, 30 + 40 * mask, np.ones_like(mask), mask)
        >>> choose_thresholds(data, {}, ["hu_threshold"], count=100)["hu_threshold"]["folds"]
        [31.0, 31.0, 31.0]
    """
    curves: dict[str, list[Curves]] = {name: [] for name in methods}
    for fold in sorted(prepared.slices["fold"].unique()):
        rows, truth = bleeding_slices(by_fold(prepared, fold), "val")
        brain = prepared.brain[rows]
        for name, parts in curves.items():
            maps = score_maps_at(name, score_maps, prepared, rows, brain, validation=True)
            parts.append(dice_curve(maps, truth, brain, grid_for(name, count)))
    chosen = {}
    for name, parts in curves.items():
        if sum(len(part) > 0 for part in parts) < 2:
            remedy = "Prepare more patients, or use the thresholds of another run: hgisam evaluate --run."
            raise InputError(f"folds of {prepared.path.name}", "bleeding slices in fewer than two", "in two", remedy)
        grid = grid_for(name, count)
        chosen[name] = best_threshold(np.concatenate(parts), grid)  # every fold validates one other
        others = ((parts * 2)[fold : fold + len(parts) - 1] for fold in range(len(parts)))  # next folds, in order
        chosen[name]["folds"] = [best_threshold(next(filter(len, after)), grid)["threshold"] for after in others]
    return chosen


def thresholds_by_slice(prepared: PreparedDataset, thresholds: Mapping[str, Any]) -> pd.DataFrame:
    """Thresholds [slice, method] from the content of `thresholds.json`.

    On the set that they were chosen on: that of the slice's fold; else that of all patients (external validation).

    Example:
        >>> import numpy as np, pandas as pd
        >>> from pathlib import Path
        >>> data = PreparedDataset(Path("set"), {"hashes": {}}, pd.DataFrame({"fold": [0, 1]}), *np.zeros((3, 2, 8, 8)))
        >>> chosen = {"hgi_sam": {"threshold": 0.3, "folds": [0.2, 0.4]}}
        >>> thresholds_by_slice(data, {"dataset": data.fingerprint, "methods": chosen})["hgi_sam"].tolist()
        [0.2, 0.4]
    """
    fold, own = pd.factorize(prepared.slices["fold"], sort=True)[0], chosen_on(prepared, thresholds)
    columns = {
        name: np.asarray(chosen["folds"])[fold] if own else np.full(len(fold), chosen["threshold"])
        for name, chosen in thresholds["methods"].items()
    }
    return pd.DataFrame(columns)


def chosen_on(prepared: PreparedDataset, thresholds: Mapping[str, Any]) -> bool:
    """True if this is the set that the thresholds were chosen on."""
    return bool(thresholds["dataset"] == prepared.fingerprint)


def bleeding_slices(split: PreparedDataset, name: str) -> tuple[Rows, Masks]:
    """Rows and ground truth [n, row, col] of the bleeding slices of a split's "val" or "test" patients."""
    rows = split.rows(name)
    truth = require_masks(split)[rows] > 0
    bleeds = truth.any(axis=(1, 2))
    return rows[bleeds], truth[bleeds]
