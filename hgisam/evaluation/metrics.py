"""Detection and segmentation metrics, percentile bootstrap over patients, paired tests with Holm correction."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import distance_transform_edt
from scipy.stats import rankdata, wilcoxon
from sklearn.metrics import average_precision_score, roc_auc_score

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
Estimate = dict[str, Any]  # {"mean": float | None, "ci95": [low, high] | None}


def dice(both: float, predicted: float, true: float) -> float:
    """Dice of pixel counts; 1 where prediction and ground truth are both empty.

    Example:
        >>> dice(both=20, predicted=30, true=50)
        0.5
    """
    return 2 * both / (predicted + true) if predicted + true else 1.0


def iou(both: float, predicted: float, true: float) -> float:
    """Intersection over union of pixel counts; 1 where prediction and ground truth are both empty.

    Example:
        >>> iou(both=20, predicted=30, true=40)
        0.4
    """
    return both / (predicted + true - both) if predicted + true else 1.0


def hit(values: Floats, truth: Bools, inside: Bools, pixel_mm: float, *, within_mm: float) -> float:
    """Pointing game: share of a map's maxima in the brain that are within a distance of the bleed; arrays [H, W]."""
    highest = inside & (values == values[inside].max(initial=-np.inf))
    near = distance_transform_edt(~truth, sampling=pixel_mm) <= within_mm
    return float(near[highest].mean()) if highest.any() else 0.0


def patient_weights(patients: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Frequency of each patient in each of `count` bootstrap samples, by the seed alone: [count, patients]."""
    return np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=count)


def bootstrap_mean(values: pd.Series, patient: pd.Series, *, count: int, seed: int) -> Estimate:
    """Mean of all values with a 95 % confidence interval: percentile bootstrap over patients.

    Args:
        values, patient: [n], one per slice or scan.
        count, seed: Of the bootstrap samples of patients.

    Example:
        >>> import numpy as np, pandas as pd
        >>> values, patient = pd.Series([0.0, 1.0]), pd.Series(["a", "b"])
        >>> bootstrap_mean(values, patient, count=100, seed=0)
        {'mean': 0.5, 'ci95': [0.0, 1.0]}
    """
    if values.empty:
        return {"mean": None, "ci95": None}
    grouped = values.groupby(patient.to_numpy()).agg(["sum", "count"])
    weights = patient_weights(len(grouped), count, seed)
    means = (weights @ grouped["sum"].to_numpy()) / (weights @ grouped["count"].to_numpy())
    return {"mean": float(values.mean()), "ci95": np.percentile(means, [2.5, 97.5]).tolist()}


def resampled(
    statistic: Callable[[Any], Sequence[float]], truth: Bools, patient: pd.Series, *,
    count: int, seed: int,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Bootstrap over patients of statistics that need each class of `truth`: [samples with all of them, statistics].

    `statistic`: weight of each slice [n] → statistics; `truth` [n]: where it bleeds; others as in `bootstrap_mean`.
    """
    codes, patients = pd.factorize(patient)
    samples = patient_weights(len(patients), count, seed)[:, codes]
    classes = [mask for mask in (truth, ~truth) if mask.any()]
    return np.array([statistic(w) for w in samples if all((w * mask).any() for mask in classes)])


def detection(table: pd.DataFrame, threshold: float, *, count: int, seed: int) -> dict[str, Any]:
    """AUROC and AUPRC of slice scores; sensitivity, specificity and F1 at the operating point, a score `threshold`.

    `table` has the columns patient, any (0/1) and score; others as in `bootstrap_mean`. Each metric is an `Estimate`,
    with None where a class that it needs is missing.
    """
    truth, score = table["any"].to_numpy() == 1, table["score"].to_numpy()
    positive = score >= threshold
    metrics: dict[str, Callable[[Any], float]] = {
        "auroc": lambda w: float(roc_auc_score(truth, score, sample_weight=w)),
        "auprc": lambda w: float(average_precision_score(truth, score, sample_weight=w)),
        "sensitivity": lambda w: float((w * (positive & truth)).sum() / (w * truth).sum()),
        "specificity": lambda w: float((w * (~positive & ~truth)).sum() / (w * ~truth).sum()),
        "f1": lambda w: float(2 * (w * (positive & truth)).sum() / (w * (positive.astype(int) + truth)).sum()),
    }
    result: dict[str, Any] = {name: {"mean": None, "ci95": None} for name in metrics}
    if truth.all() or not truth.any():
        metrics = {name: metrics[name] for name in (("sensitivity", "f1") if truth.any() else ("specificity",))}
    options: dict[str, Any] = {"count": count, "seed": seed}
    samples = resampled(lambda w: [metric(w) for metric in metrics.values()], truth, table["patient"], **options)
    for column, (name, metric) in enumerate(metrics.items()):
        interval = np.percentile(samples[:, column], [2.5, 97.5]).tolist() if len(samples) else None
        result[name] = {"mean": metric(np.ones(len(truth))), "ci95": interval}
    counts = {"n_slices": len(table), "n_positive": int(truth.sum()), "n_patients": table["patient"].nunique()}
    return result | {"threshold": threshold, **counts}


def size_names(edges: Sequence[float], unit: str) -> list[str]:
    """Names of the groups of `size_groups`, ascending: "< 5 ml", "5–15 ml", "≥ 15 ml"."""
    between = [f"{low:g}–{high:g} {unit}" for low, high in pairwise(edges)]
    return [f"< {edges[0]:g} {unit}", *between, f"≥ {edges[-1]:g} {unit}"]


def size_groups(sizes: pd.Series, edges: Sequence[float], unit: str) -> pd.Series:
    """Bleeds grouped by size: [n] above 0 → [n] of `size_names`, as categories; a group includes its lower edge."""
    return pd.cut(sizes, [0, *edges, np.inf], right=False, labels=size_names(edges, unit))


def rank_biserial(difference: Floats) -> float | None:
    """Matched-pairs rank-biserial correlation of differences a − b [n]: -1 (b is always better) to 1 (a always).

    The effect size of the Wilcoxon test. Zeros are left out, as in the test; None for zeros alone.

    Source: Kerby, The simple difference formula, Comprehensive Psychology 2014.
    """
    different = difference[difference != 0]
    if not len(different):
        return None
    ranks = rankdata(np.abs(different))
    return float((ranks * np.sign(different)).sum() / ranks.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm correction of p-values; None, where there was nothing to test, counts as a test all the same.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    p = np.array([1.0 if value is None else value for value in p_values])
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1))
    return [None if value is None else float(c) for value, c in zip(p_values, corrected, strict=True)]


def compare(a: pd.Series, b: pd.Series, *, count: int, seed: int) -> dict[str, Any]:
    """Paired comparison of the mean Dice of two methods, both indexed by patient: difference, interval, Wilcoxon test.

    The p-value and the effect size, see `rank_biserial`, are None where no patient differs.
    """
    difference = (a - b.reindex(a.index)).rename("difference")
    estimate = bootstrap_mean(difference, pd.Series(difference.index), count=count, seed=seed)
    test = wilcoxon(difference) if len(difference) > 1 and difference.any() else None
    found: dict[str, Any] = {"test": "Wilcoxon signed-rank over patients, two-sided", "n_patients": len(difference)}
    found |= {"p_value": float(test.pvalue) if test else None, "effect_size": rank_biserial(difference.to_numpy())}
    return {"difference": estimate["mean"], "ci95": estimate["ci95"], **found}
