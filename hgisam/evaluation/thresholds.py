"""Thresholds, each chosen on other patients than it is used for."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.masks import Curves, best_threshold, dice_curve
from hgisam.evaluation.score_maps import ScoreMaps, grid_for, score_maps_at


def choose_thresholds(
    prepared: PreparedDataset, values: ScoreMaps, methods: Iterable[str], *, count: int
) -> dict[str, dict[str, Any]]:
    """For each method and fold, the threshold with the best mean Dice over the bleeding slices of the next fold.

    Args:
        prepared: With masks and at least three folds.
        values: From `read_score_maps`.
        methods: Of `candidates`.
        count: Thresholds tried for maps.

    Returns:
        Method → threshold, validation_dice, n_slices, grid and dice, which are of all patients, for use on other sets;
        and folds: the threshold to use for each fold, in their order.

    Raises:
        InputError: If there are no masks, fewer than three folds, or a fold without a bleeding slice.
    """
    curves: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in methods}
    for fold in sorted(prepared.slices["fold"].unique()):
        rows, truth = bleeding_slices(by_fold(prepared, fold), "val")
        brain = prepared.brain[rows]
        for name, parts in curves.items():
            given = score_maps_at(name, values, prepared, rows, brain, validation=True)
            parts.append(dice_curve(given, truth, brain, grid_for(name, count)))
    chosen = {}
    for name, parts in curves.items():
        grid = grid_for(name, count)
        chosen[name] = best_threshold(np.concatenate(parts), grid)  # every fold is the next of one
        chosen[name]["folds"] = [best_threshold(part, grid)["threshold"] for part in parts]
    return chosen


def thresholds_by_slice(prepared: PreparedDataset, thresholds: Mapping[str, Any]) -> pd.DataFrame:
    """The threshold of each method for each slice.

    Args:
        prepared: Any set.
        thresholds: As `thresholds.json`: dataset (the fingerprint of the set they were chosen on) and methods, from
            `choose_thresholds`.

    Returns:
        A row a slice, a column a method: on the set of the choice that of the slice's fold, else that of all patients.
    """
    fold = pd.factorize(prepared.slices["fold"], sort=True)[0]
    own = chosen_on(prepared, thresholds)
    columns = {
        name: np.asarray(chosen["folds"])[fold] if own else np.full(len(fold), chosen["threshold"])
        for name, chosen in thresholds["methods"].items()
    }
    return pd.DataFrame(columns)


def dice_at_best_threshold(
    validation: Curves, test: Curves, grid: npt.NDArray[np.float64]
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """The threshold that is best on some slices, and the Dice of others there.

    Args:
        validation: [n, T] Dice of the slices that the threshold is chosen on, see `dice_curve`.
        test: [m, T] Dice of the slices that are measured.
        grid: [T] thresholds.

    Returns:
        What `best_threshold` found, and the Dice [m].
    """
    chosen = best_threshold(validation, grid)
    return chosen, test[:, np.searchsorted(grid, chosen["threshold"])]


def chosen_on(prepared: PreparedDataset, thresholds: Mapping[str, Any]) -> bool:
    """Whether this is the set that the thresholds were chosen on."""
    return bool(thresholds["dataset"] == prepared.fingerprint)


def bleeding_slices(split: PreparedDataset, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Rows of the bleeding slices of a split's "val" or "test" patients, and what is drawn in them."""
    rows = split.rows(name)
    truth = require_masks(split)[rows] > 0
    bleeds = truth.any(axis=(1, 2))
    if not bleeds.any():
        fold = split.slices["fold"].iloc[rows[0]]
        remedy = "Prepare more patients, or fewer data.folds."
        raise InputError(f"fold {fold} of {split.path.name}", "no bleeding slice", "at least one in each", remedy)
    return rows[bleeds], truth[bleeds]
