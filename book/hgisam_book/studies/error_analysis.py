"""Error analysis of a classifier: calibration, confusion by subtype, sensitivity by lesion size, time to a target."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from hgisam.data.labels import SUBTYPES
from hgisam.errors import InputError
from hgisam.evaluation.metrics import bootstrap_mean, size_groups

CALIBRATION_GROUPS = 10
NO_BLEEDING, SEVERAL, NOT_ANNOTATED = "no bleeding", "several subtypes", "subtype not annotated"
PREDICTED_BLEEDING, PREDICTED_NEGATIVE = "predicted bleeding", "predicted no bleeding"


def calibration_errors(labels: Any, scores: Any, *, groups: int = CALIBRATION_GROUPS) -> dict[str, float]:
    """Expected calibration error and Brier score.

    Args:
        labels: [n] 0/1.
        scores: [n] in [0, 1].
        groups: Number of bins of equal size, by score; tied scores share a bin.

    Returns:
        `ece`: the expected calibration error, the absolute difference between the mean score of a bin and the fraction
        that bleeds in it, averaged over slices. `brier`: the mean squared difference between score and label.

    Source: Naeini, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015; bins of equal size
        instead of equal width as in Nixon, Measuring calibration in deep learning, CVPR workshops 2019.
    """
    brier = float(brier_score_loss(labels, scores, pos_label=1))  # raises for scores that are no probabilities
    labels, scores = np.asarray(labels), np.asarray(scores)
    edges = np.quantile(scores, np.linspace(0, 1, groups + 1)[1:-1])
    excess = np.bincount(np.searchsorted(edges, scores), weights=labels - scores)
    return {"ece": float(np.abs(excess).sum() / len(scores)), "brier": brier}


def confusion_by_type(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Confusion matrix of the annotated subtypes against the prediction of any bleed.

    Args:
        table: Columns any, the five subtypes (0/1), score; one row per slice.
        threshold: Operating point: score at and above which a slice is predicted to bleed.

    Returns:
        Number of slices by `PREDICTED_BLEEDING` and `PREDICTED_NEGATIVE`. Rows: no bleeding, each subtype where it is
        the only one, several subtypes; and subtype not annotated, if there is such a slice.
    """
    types = table[list(SUBTYPES)].to_numpy() == 1
    alone = np.array(SUBTYPES, dtype=object)[types.argmax(axis=1)]
    bleeds = table["any"].to_numpy() == 1
    true = np.select([types.sum(axis=1) > 1, types.any(axis=1), bleeds], [SEVERAL, alone, NOT_ANNOTATED], NO_BLEEDING)
    predicted = np.where(table["score"] >= threshold, PREDICTED_BLEEDING, PREDICTED_NEGATIVE)
    kinds = [NO_BLEEDING, *SUBTYPES, SEVERAL, *([NOT_ANNOTATED] if NOT_ANNOTATED in true else [])]
    counts = pd.crosstab(true, predicted).rename_axis(index=None, columns=None)
    return counts.reindex(index=kinds, columns=[PREDICTED_BLEEDING, PREDICTED_NEGATIVE], fill_value=0)


def predicted_types(table: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Confusion matrix of true and predicted subtypes, for a network that was trained on the subtypes.

    Args:
        table: Columns any, the five subtypes (0/1) and their scores, score_<type>; one row per slice.
        thresholds: Subtype → score at and above which it is predicted.

    Returns:
        Rows: each subtype and no bleeding. `slices`: their number, a slice with two subtypes counted for both; then one
        column per subtype: the fraction of these slices in which it is predicted.

    Raises:
        InputError: If a subtype has no scores.
    """
    if missing := [name for name in SUBTYPES if f"score_{name}" not in table]:
        remedy = "Train with the subtypes as labels."
        raise InputError("scores of subtypes", f"none of {', '.join(missing)}", "one column per subtype", remedy)
    predicted = pd.DataFrame({name: table[f"score_{name}"] >= thresholds[name] for name in SUBTYPES})
    true = {name: table[name] == 1 for name in SUBTYPES} | {NO_BLEEDING: table["any"] == 0}
    rows = {kind: {"slices": int(where.sum()), **predicted[where].mean()} for kind, where in true.items()}
    return pd.DataFrame.from_dict(rows, orient="index").astype({"slices": "int64"})


def bleeding_scans(sized: pd.DataFrame) -> pd.DataFrame:
    """Scans with an annotated bleed, as rows for `sensitivity_by_size`.

    Args:
        sized: From `with_lesion_sizes`, all slices of a scan.

    Returns:
        By study: patient, volume_ml, and score, the maximum over the slices with an annotated bleed, so that a false
        positive in another slice of the scan does not count as a detection.
    """
    columns = {"patient": ("patient", "first"), "volume_ml": ("volume_ml", "sum"), "score": ("score", "max")}
    return sized[sized["area_mm2"] > 0].groupby("study", sort=False).agg(**columns)


def sensitivity_by_size(
    sized: pd.DataFrame,
    threshold: float,
    *,
    size: str,
    edges: Sequence[float],
    count: int,
    seed: int,
) -> pd.DataFrame:
    """Sensitivity by lesion size, with 95 % confidence intervals.

    Args:
        sized: Columns patient, score, and the size; only rows with a size above 0 count.
        threshold: Operating point: score at and above which a bleed is predicted.
        size: Column: area_mm2 or volume_ml.
        edges: Between the size groups, ascending.
        count, seed: As in `bootstrap_mean`.

    Returns:
        One row per size group, ascending: n, patients, mean (the sensitivity), low, high. The interval is the wider of
        two: the bootstrap over patients, which accounts for the similarity of a patient's slices but has no width where
        all were detected, and Wilson's, for which the opposite holds.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    unit = {"area_mm2": "mm²", "volume_ml": "ml"}[size]
    annotated = sized[sized[size] > 0]
    group = size_groups(annotated[size], edges, unit)
    rows = {}
    for name in group.cat.categories:
        mine = annotated[group == name]
        detected = mine["score"] >= threshold
        rows[name] = {"n": len(mine), "patients": mine["patient"].nunique()}
        if len(mine):
            estimate = bootstrap_mean(detected, mine["patient"], count=count, seed=seed)
            wilson, (low, high) = binomtest(detected.sum(), len(mine)).proportion_ci(method="wilson"), estimate["ci95"]
            rows[name] |= {"mean": estimate["mean"], "low": min(low, wilson.low), "high": max(high, wilson.high)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n", "patients", "mean", "low", "high"])


def check_history(name: str, history: pd.DataFrame, columns: Sequence[str]) -> None:
    """Checks that the history of a training has an epoch and the columns to be shown.

    Raises:
        InputError: If not.
    """
    if history.empty:
        raise InputError(f"history of {name}", "no epoch", "at least one", "Train it first.")
    if missing := [column for column in columns if column not in history]:
        expected = f"one of {', '.join(map(str, history.columns))}"
        raise InputError(f"history of {name}", f"no column {missing[0]}", expected, "Choose one of its columns.")


def time_to(history: pd.DataFrame, metric: str, target: float) -> float | None:
    """Seconds from the start of a training to the end of its first epoch at or above the target.

    Args:
        history: `train.csv`: seconds of each epoch, and the metric.
        metric: Column, the higher the better.
        target: Value to reach.

    Returns:
        None if it was never reached.

    Raises:
        InputError: If the history is empty or lacks a column.
    """
    check_history("the training", history, ["seconds", metric])
    reached = np.flatnonzero(history[metric] >= target)
    return float(history["seconds"].iloc[: reached[0] + 1].sum()) if len(reached) else None
