"""Label budget: Dice of a supervised segmenter against the number of annotated scans it was trained on."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.metrics import patient_weights
from hgisam.inference.predictor import SlicePredictor, probability_of_bleeding
from hgisam_book.studies.method_comparison import bleeding_rows, dice_at_best_threshold, dice_curves


def held_out_dice(predictor: SlicePredictor, split: PreparedDataset, grid: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Dice of the bleeding test slices, at the threshold that is best on the bleeding validation slices.

    Args:
        predictor: Of a segmenter.
        split: The set from `by_fold`.
        grid: [T] ascending thresholds.

    Returns:
        One row per slice: patient, row, dice, threshold.
    """
    rows = {name: bleeding_rows(split, name, most=len(split.slices), seed=0) for name in ("val", "test")}
    both = np.concatenate([rows["val"], rows["test"]])
    curve = dice_curves(predictor, split, {"segmenter": probability_of_bleeding}, both, grid)["segmenter"]
    chosen, dice = dice_at_best_threshold(curve[: len(rows["val"])], curve[len(rows["val"]) :], grid)
    patient = split.slices["patient"].iloc[rows["test"]].to_numpy()
    return pd.DataFrame({"patient": patient, "row": rows["test"], "dice": dice, "threshold": chosen["threshold"]})


def budget_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Dice against the number of annotated scans.

    Args:
        table: Columns budget, scans, fold and dice, one row per slice.

    Returns:
        One row per budget, fewest scans first: budget, scans (a mean where folds have different numbers), dice (the
        mean of all slices), n_slices, n_folds.
    """
    grouped = table.groupby("budget", sort=False)
    scans = table.drop_duplicates(["budget", "fold"]).groupby("budget", sort=False)["scans"].mean()
    curve = pd.DataFrame({"scans": scans, "dice": grouped["dice"].mean()})
    curve["n_slices"], curve["n_folds"] = grouped.size(), grouped["fold"].nunique()
    return curve.sort_values("scans").reset_index()


def equivalent_scans(curve: pd.Series, dice: float) -> float | None:
    """Number of annotated scans with which a supervised segmenter reaches the Dice of a weakly supervised one.

    Args:
        curve: Dice of the supervised segmenter, indexed by annotated scans, fewest first.
        dice: Of the weakly supervised one.

    Returns:
        Where the curve first reaches it, interpolated linearly over the logarithm of scans; the smallest budget if that
        reaches it already; None if none does.
    """
    reached = curve.to_numpy() >= dice
    if not reached.any():
        return None
    first = int(reached.argmax())
    if first == 0:
        return float(curve.index[0])
    few, many = (math.log(scans) for scans in curve.index[first - 1 : first + 1])
    low, high = curve.iloc[first - 1], curve.iloc[first]
    return math.exp(few + (dice - low) / (high - low) * (many - few))


def equivalent_scans_interval(table: pd.DataFrame, weak: pd.Series, *, count: int, seed: int) -> dict[str, Any]:
    """`equivalent_scans` with a percentile bootstrap interval over patients, paired: the same samples for both methods.

    Args:
        table: As for `budget_curve`, with patient and row.
        weak: Dice of the weakly supervised method, indexed by row; has all rows of the table.
        count, seed: As in `bootstrap_mean`.

    Returns:
        scans: from `equivalent_scans`; ci95: percentiles, None in place of a number beyond the largest budget; reached:
        fraction of the samples in which the curve reaches the Dice.
    """
    samples = _equivalent_samples(table, weak, count=count, seed=seed)
    return _percentiles(np.sort(samples)) | {"scans": _equivalent(table, weak)}


def worth_of_slice_labels(
    table: pd.DataFrame, weak: Mapping[str, pd.Series], *, count: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """`equivalent_scans` of several trainings on slice labels, by split, with an interval over all of it.

    Args:
        table: As for `equivalent_scans_interval`.
        weak: Training, e.g. "seed 1" → Dice of its maps, indexed by row; has all rows of the table.
        count, seed: As in `bootstrap_mean`, for each split and training.

    Returns:
        Annotated scans by training and fold, NaN beyond the largest budget of the fold; and an interval as of
        `equivalent_scans_interval`, whose samples differ in split, training and patients. Its scans are the median.
    """
    cells, samples = {}, []
    for fold, part in table.groupby("fold"):
        for name, dice in weak.items():
            cells[name, fold] = _equivalent(part, dice)
            samples.append(_equivalent_samples(part, dice, count=count, seed=seed))
    found = pd.Series(cells, dtype=float).unstack()
    pooled = np.sort(np.concatenate(samples))
    return found, _percentiles(pooled) | {"scans": _finite(pooled[len(pooled) // 2])}


def _equivalent(table: pd.DataFrame, weak: pd.Series) -> float | None:
    """`equivalent_scans` of the mean Dice of the table's slices."""
    curve = budget_curve(table).set_index("scans")["dice"]
    return equivalent_scans(curve, float(weak.reindex(table["row"].unique()).mean()))


def _equivalent_samples(table: pd.DataFrame, weak: pd.Series, *, count: int, seed: int) -> npt.NDArray[np.float64]:
    """`equivalent_scans` in bootstrap samples of the patients, infinite where the curve doesn't reach the Dice."""
    curve = budget_curve(table)
    slices = table.drop_duplicates("row").set_index("row")["patient"]
    columns = {budget: part.groupby("patient")["dice"] for budget, part in table.groupby("budget")}
    columns["weak"] = weak.reindex(slices.index).rename("dice").groupby(slices)
    sums, sizes = (
        pd.DataFrame({k: getattr(g, how)() for k, g in columns.items()}).fillna(0) for how in ("sum", "count")
    )
    weights = patient_weights(len(sums), count, seed)
    with np.errstate(invalid="ignore"):
        means = pd.DataFrame((weights @ sums) / (weights @ sizes))[[*curve["budget"], "weak"]].dropna()
    samples = [equivalent_scans(pd.Series(row[:-1], index=curve["scans"]), row[-1]) for row in means.to_numpy()]
    return np.array([math.inf if scans is None else scans for scans in samples])


def _percentiles(ordered: npt.NDArray[np.float64]) -> dict[str, Any]:
    ends = [_finite(ordered[round(share * (len(ordered) - 1))]) for share in (0.025, 0.975)]
    return {"ci95": ends, "reached": float(np.isfinite(ordered).mean())}


def _finite(scans: float) -> float | None:
    return None if math.isinf(scans) else float(scans)
