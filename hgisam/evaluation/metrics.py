"""Detection and segmentation figures, intervals over patients, and paired tests."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import distance_transform_edt
from scipy.stats import rankdata, wilcoxon
from sklearn.metrics import average_precision_score, roc_auc_score

Estimate = dict[str, Any]  # {"mean": float | None, "ci95": [low, high] | None}


def dice(both: float, predicted: float, true: float) -> float:
    """Dice of pixel counts; 1 where there is nothing to find and nothing was found."""
    return 2 * both / (predicted + true) if predicted + true else 1.0


def iou(both: float, predicted: float, true: float) -> float:
    """Intersection over union of pixel counts; 1 where there is nothing to find and nothing was found."""
    return both / (predicted + true - both) if predicted + true else 1.0


def hit(
    values: npt.NDArray[np.floating],
    truth: npt.NDArray[np.bool_],
    inside: npt.NDArray[np.bool_],
    pixel_mm: float,
    *,
    within_mm: float,
) -> float:
    """Share of a map's highest pixels in the brain that lie within so many mm of the bleed; all arrays [H, W]."""
    highest = inside & (values == values[inside].max(initial=-np.inf))
    near = distance_transform_edt(~truth, sampling=pixel_mm) <= within_mm
    return float(near[highest].mean()) if highest.any() else 0.0


def patient_weights(patients: int, count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each patient is drawn in each of `count` bootstrap samples: [count, patients]."""
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=count)


def bootstrap_mean(values: pd.Series, patient: pd.Series, *, count: int, generator: np.random.Generator) -> Estimate:
    """Mean of all values, with a percentile interval from resampling patients.

    Args:
        values: [n], one a slice or scan.
        patient: [n], whose it is.
        count: Bootstrap samples.
        generator: Where the randomness comes from.
    """
    if values.empty:
        return {"mean": None, "ci95": None}
    grouped = values.groupby(patient.to_numpy()).agg(["sum", "count"])
    weights = patient_weights(len(grouped), count, generator)
    means = (weights @ grouped["sum"].to_numpy()) / (weights @ grouped["count"].to_numpy())
    return {"mean": float(values.mean()), "ci95": np.percentile(means, [2.5, 97.5]).tolist()}


def resampled(
    statistic: Callable[[npt.NDArray[np.int64]], Sequence[float]],
    truth: npt.NDArray[np.bool_],
    patient: pd.Series,
    *,
    count: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Bootstrap over patients of statistics that need both classes.

    Args:
        statistic: Weight of each slice [n] → statistics.
        truth: [n] whether a slice bleeds; samples of one class are left out.
        patient: [n], whose slice it is.
        count: Bootstrap samples.
        generator: Where the randomness comes from.

    Returns:
        [usable samples, statistics].
    """
    codes, patients = pd.factorize(patient)
    samples = patient_weights(len(patients), count, generator)[:, codes]
    return np.array([statistic(w) for w in samples if 0 < (w * truth).sum() < w.sum()])


def detection(table: pd.DataFrame, threshold: float, *, count: int, generator: np.random.Generator) -> dict[str, Any]:
    """AUROC, AUPRC, sensitivity, specificity and F1 of slice scores.

    Args:
        table: Columns patient, any (0/1), score.
        threshold: Score at and above which a slice is said to bleed.
        count: Bootstrap samples of patients.
        generator: Where the randomness comes from.

    Returns:
        Each figure as {"mean", "ci95"}; None where a class is missing.
    """
    truth, score = table["any"].to_numpy() == 1, table["score"].to_numpy()
    said = score >= threshold

    def ratio(part: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_]) -> Callable[[Any], float]:
        return lambda w: float((w * part).sum() / (w * whole).sum())

    figures: dict[str, Callable[[Any], float]] = {
        "auroc": lambda w: float(roc_auc_score(truth, score, sample_weight=w)),
        "auprc": lambda w: float(average_precision_score(truth, score, sample_weight=w)),
        "sensitivity": ratio(said & truth, truth),
        "specificity": ratio(~said & ~truth, ~truth),
        "f1": lambda w: float(2 * (w * (said & truth)).sum() / (w * (said.astype(int) + truth)).sum()),
    }
    result: dict[str, Any] = {name: {"mean": None, "ci95": None} for name in figures}
    if 0 < truth.sum() < len(truth):
        samples = resampled(
            lambda w: [figure(w) for figure in figures.values()], truth, table["patient"], count=count,
            generator=generator,
        )  # fmt: skip
        for column, (name, figure) in enumerate(figures.items()):
            interval = np.percentile(samples[:, column], [2.5, 97.5]).tolist() if len(samples) else None
            result[name] = {"mean": figure(np.ones(len(truth))), "ci95": interval}
    return result | {
        "threshold": threshold,
        "n_slices": len(table),
        "n_positive": int(truth.sum()),
        "n_patients": table["patient"].nunique(),
    }


def size_names(edges: Sequence[float], unit: str) -> list[str]:
    """Names of the groups of `size_groups`, from small to large: "< 5 ml", "5–15 ml", "≥ 15 ml"."""
    between = [f"{low:g}–{high:g} {unit}" for low, high in pairwise(edges)]
    return [f"< {edges[0]:g} {unit}", *between, f"≥ {edges[-1]:g} {unit}"]


def size_groups(sizes: pd.Series, edges: Sequence[float], unit: str) -> pd.Series:
    """Sorts bleeds by their size.

    Args:
        sizes: [n] above 0.
        edges: Where one group ends and the next begins, ascending.
        unit: Of both, for the names.

    Returns:
        [n] of `size_names`, as categories.
    """
    return pd.cut(sizes, [0, *edges, np.inf], right=False, labels=size_names(edges, unit))


def rank_biserial(difference: npt.NDArray[np.floating]) -> float | None:
    """Effect size of the signed-rank test: how much of the ranks favours a, less how much favours b.

    Args:
        difference: [n] of pairs; zeros are left out, as the test does.

    Returns:
        From -1 (b is always ahead) to 1 (a is always ahead); None where all are zero.

    Source: Kerby, The simple difference formula, Comprehensive Psychology 2014.
    """
    different = difference[difference != 0]
    if not len(different):
        return None
    ranks = rankdata(np.abs(different))
    return float((ranks * np.sign(different)).sum() / ranks.sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values that hold for all tests together: the chance of a single false alarm among them stays below each.

    Args:
        p_values: One a test; None where there was nothing to test, which counts as a test all the same.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    p = np.array([1.0 if value is None else value for value in p_values])
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1))
    return [None if value is None else float(c) for value, c in zip(p_values, corrected, strict=True)]


def compare(a: pd.Series, b: pd.Series, *, count: int, generator: np.random.Generator) -> dict[str, Any]:
    """Is method a better than method b on the same patients?

    Args:
        a: Mean Dice of each patient, indexed by patient.
        b: The same for the other method.
        count: Bootstrap samples for the interval of the difference.
        generator: Where the randomness comes from.

    Returns:
        Mean difference over patients with interval, the p-value of a two-sided Wilcoxon signed-rank test (None where no
        patient differs), and its effect size, see `rank_biserial`.
    """
    difference = (a - b.reindex(a.index)).rename("difference")
    estimate = bootstrap_mean(difference, pd.Series(difference.index), count=count, generator=generator)
    test = wilcoxon(difference) if len(difference) > 1 and difference.any() else None
    return {
        "difference": estimate["mean"],
        "ci95": estimate["ci95"],
        "p_value": float(test.pvalue) if test is not None else None,
        "effect_size": rank_biserial(difference.to_numpy()),
        "test": "Wilcoxon signed-rank over patients, two-sided",
        "n_patients": len(difference),
    }
