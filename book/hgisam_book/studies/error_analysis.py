"""What a classifier misses, how far its scores can be believed, and how long it took to learn: numbers from tables."""

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
NO_BLEEDING, SEVERAL, UNNAMED = "no bleeding", "several types", "type not named"
SAID, NOT_SAID = "said to bleed", "said not to bleed"


def calibration_errors(labels: Any, scores: Any, *, groups: int = CALIBRATION_GROUPS) -> dict[str, float]:
    """How far scores are from being probabilities.

    Args:
        labels: [n] 0/1.
        scores: [n] in [0, 1].
        groups: Of equal size, by score; slices with the same score stay together.

    Returns:
        `ece`: the expected calibration error, the distance between the mean score of a group and the share that
        bleeds in it, averaged over slices. `brier`: the mean squared distance between score and label.

    Source: Naeini, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015; groups of equal size
        instead of equal width as in Nixon, Measuring calibration in deep learning, CVPR workshops 2019.
    """
    brier = float(brier_score_loss(labels, scores, pos_label=1))  # refuses what is no probability
    labels, scores = np.asarray(labels), np.asarray(scores)
    edges = np.quantile(scores, np.linspace(0, 1, groups + 1)[1:-1])
    excess = np.bincount(np.searchsorted(edges, scores), weights=labels - scores)
    return {"ece": float(np.abs(excess).sum() / len(scores)), "brier": brier}


def confusion_by_type(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """What a slice shows against what is said of it.

    Args:
        table: Columns any, the five subtypes (0/1), score; a row a slice.
        threshold: Score at and above which a slice is said to bleed.

    Returns:
        Slices by `SAID` and `NOT_SAID`. Rows: no bleeding, each type where it is alone, several types; and type not
        named, if there is such a slice.
    """
    types = table[list(SUBTYPES)].to_numpy() == 1
    alone = np.array(SUBTYPES, dtype=object)[types.argmax(axis=1)]
    bleeds = table["any"].to_numpy() == 1
    shown = np.select([types.sum(axis=1) > 1, types.any(axis=1), bleeds], [SEVERAL, alone, UNNAMED], NO_BLEEDING)
    said = np.where(table["score"] >= threshold, SAID, NOT_SAID)
    kinds = [NO_BLEEDING, *SUBTYPES, SEVERAL, *([UNNAMED] if UNNAMED in shown else [])]
    counts = pd.crosstab(shown, said).rename_axis(index=None, columns=None)
    return counts.reindex(index=kinds, columns=[SAID, NOT_SAID], fill_value=0)


def predicted_types(table: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """True type against said type, for a network that was trained on the subtypes.

    Args:
        table: Columns any, the five subtypes (0/1) and their scores, score_<type>; a row a slice.
        thresholds: Type → score at and above which the type is said.

    Returns:
        Rows: each type and no bleeding. `slices`: how many show it, a slice with two types counted for both; then a
        column a type: in what share of these slices it is said.

    Raises:
        InputError: If a type has no scores.
    """
    if missing := [name for name in SUBTYPES if f"score_{name}" not in table]:
        remedy = "Train with the subtypes as labels."
        raise InputError("scores of types", f"none of {', '.join(missing)}", "one column a type", remedy)
    said = pd.DataFrame({name: table[f"score_{name}"] >= thresholds[name] for name in SUBTYPES})
    shown = {name: table[name] == 1 for name in SUBTYPES} | {NO_BLEEDING: table["any"] == 0}
    rows = {kind: {"slices": int(where.sum()), **said[where].mean()} for kind, where in shown.items()}
    return pd.DataFrame.from_dict(rows, orient="index").astype({"slices": "int64"})


def bleeding_scans(sized: pd.DataFrame) -> pd.DataFrame:
    """The scans in which something is drawn, as rows for `sensitivity_by_size`.

    Args:
        sized: From `with_lesion_sizes`, all slices of a scan.

    Returns:
        By study: patient, volume_ml, and as score the best of the slices in which something is drawn, so that a false
        alarm elsewhere in the scan finds nothing.
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
    generator: np.random.Generator,
) -> pd.DataFrame:
    """How many bleeds of each size are found.

    Args:
        sized: Columns patient, score, and the size; only rows with a size above 0 count.
        threshold: Score at and above which it is said to bleed.
        size: Column: area_mm2 or volume_ml.
        edges: Where one group of sizes ends and the next begins, ascending.
        count: Bootstrap samples of patients.
        generator: Where the randomness comes from.

    Returns:
        A row a group, from small to large: n, patients, mean (the sensitivity), low, high (95 %). The interval is the
        wider of two: the bootstrap over patients, which knows that slices of a patient resemble each other but has no
        width where all were found, and Wilson's, of which the opposite is true.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    unit = {"area_mm2": "mm²", "volume_ml": "ml"}[size]
    drawn = sized[sized[size] > 0]
    group = size_groups(drawn[size], edges, unit)
    rows = {}
    for name in group.cat.categories:
        mine = drawn[group == name]
        found = mine["score"] >= threshold
        rows[name] = {"n": len(mine), "patients": mine["patient"].nunique()}
        if len(mine):
            estimate = bootstrap_mean(found, mine["patient"], count=count, generator=generator)
            wilson, (low, high) = binomtest(found.sum(), len(mine)).proportion_ci(method="wilson"), estimate["ci95"]
            rows[name] |= {"mean": estimate["mean"], "low": min(low, wilson.low), "high": max(high, wilson.high)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n", "patients", "mean", "low", "high"])


def check_history(name: str, history: pd.DataFrame, columns: Sequence[str]) -> None:
    """Holds the history of a training to what is to be shown of it.

    Raises:
        InputError: If it has no epoch, or lacks a column.
    """
    if history.empty:
        raise InputError(f"history of {name}", "no epoch", "at least one", "Train it first.")
    if missing := [column for column in columns if column not in history]:
        expected = f"one of {', '.join(map(str, history.columns))}"
        raise InputError(f"history of {name}", f"no column {missing[0]}", expected, "Name what it holds.")


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
