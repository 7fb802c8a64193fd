"""How many drawn scans are labels of slices worth? Dice against the number of scans that a segmenter learned from."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.metrics import patient_weights
from hgisam.evaluation.thresholds import dice_at_best_threshold
from hgisam.inference.cross_validation import probability_of_bleeding
from hgisam.inference.predictor import SlicePredictor
from hgisam_book.studies.method_comparison import bleeding_rows, dice_curves


def held_out_dice(predictor: SlicePredictor, split: PreparedDataset, grid: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Dice of the bleeding test slices, at the threshold that is best on those of the validation patients.

    Args:
        predictor: Of a segmenter.
        split: The set as `by_fold` divides it.
        grid: [T] ascending thresholds.

    Returns:
        A row a slice: patient, row, dice, and the threshold.
    """
    rows = {name: bleeding_rows(split, name, most=len(split.slices), seed=0) for name in ("val", "test")}
    both = np.concatenate([rows["val"], rows["test"]])
    curve = dice_curves(predictor, split, {"segmenter": probability_of_bleeding}, both, grid)["segmenter"]
    chosen, dice = dice_at_best_threshold(curve[: len(rows["val"])], curve[len(rows["val"]) :], grid)
    patient = split.slices["patient"].iloc[rows["test"]].to_numpy()
    return pd.DataFrame({"patient": patient, "row": rows["test"], "dice": dice, "threshold": chosen["threshold"]})


def budget_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Dice against drawn scans.

    Args:
        table: Columns budget, scans, fold and dice, a row a slice.

    Returns:
        A row a budget, fewest scans first: budget, scans (a mean where folds have different numbers), dice (the mean of
        all slices), n_slices, n_folds.
    """
    grouped = table.groupby("budget", sort=False)
    scans = table.drop_duplicates(["budget", "fold"]).groupby("budget", sort=False)["scans"].mean()
    curve = pd.DataFrame({"scans": scans, "dice": grouped["dice"].mean()})
    curve["n_slices"], curve["n_folds"] = grouped.size(), grouped["fold"].nunique()
    return curve.sort_values("scans").reset_index()


def worth_of_image_labels(curve: pd.Series, dice: float) -> float | None:
    """Drawn scans from which a supervised segmenter reaches the Dice of a weak one.

    Args:
        curve: Dice of the supervised segmenter, indexed by drawn scans, fewest first.
        dice: Of the weak one.

    Returns:
        Where the curve first reaches it, between two budgets on a line over the logarithm of scans; the least budget if
        that is as good already; None if none is.
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


def worth_interval(
    table: pd.DataFrame, weak: pd.Series, *, count: int, generator: np.random.Generator
) -> dict[str, Any]:
    """The same with an interval from resampling patients, who are the same for curve and weak method in each sample.

    Args:
        table: As for `budget_curve`, with patient and row.
        weak: Dice of the weak method, indexed by row; has all rows of the table.
        count: Bootstrap samples.
        generator: Where the randomness comes from.

    Returns:
        scans: from `worth_of_image_labels`; ci95: percentiles, None in place of a number that is beyond the largest
        budget; reached: share of the samples in which the curve crosses.
    """
    curve = budget_curve(table)
    slices = table.drop_duplicates("row").set_index("row")["patient"]
    columns = {budget: part.groupby("patient")["dice"] for budget, part in table.groupby("budget")}
    columns["weak"] = weak.reindex(slices.index).rename("dice").groupby(slices)
    sums, sizes = (
        pd.DataFrame({k: getattr(g, how)() for k, g in columns.items()}).fillna(0) for how in ("sum", "count")
    )
    weights = patient_weights(len(sums), count, generator)
    with np.errstate(invalid="ignore"):
        means = pd.DataFrame((weights @ sums) / (weights @ sizes))[[*curve["budget"], "weak"]].dropna()
    worths = [worth_of_image_labels(pd.Series(row[:-1], index=curve["scans"]), row[-1]) for row in means.to_numpy()]
    ordered = np.sort([math.inf if worth is None else worth for worth in worths])
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (0.025, 0.975))
    return {
        "scans": worth_of_image_labels(curve.set_index("scans")["dice"], float(weak.reindex(slices.index).mean())),
        "ci95": [None if math.isinf(end) else end for end in (low, high)],
        "reached": float(np.isfinite(ordered).mean()),
    }
