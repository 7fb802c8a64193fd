"""Binary or subtype labels: their effect on the scores, maps and attention heads of a classifier.

With the same seed both tasks start from the same backbone weights and train on the same slices, with the same random
augmentation, in the same order; only the classification head and the loss differ. So classifiers are compared in pairs,
seed by seed, and attention head by attention head.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wasserstein_distance
from sklearn.metrics import roc_auc_score

from hgisam.data.labels import SUBTYPES
from hgisam.evaluation.metrics import Estimate, bootstrap_mean, compare, resampled

COMPARED_TASKS = ("binary", "subtype")
SAME_SEED, SAME_TASK, NEITHER = "same seed, other task", "same task, other seed", "other task and seed"


def summarize_study(dice: pd.DataFrame, scores: pd.DataFrame, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Summary of the study, each estimate as {"mean", "ci95"} with intervals over patients.

    Args:
        dice: task, seed, target, method, patient, dice; one row per slice.
        scores: task, seed, patient, labels, scores; one row per slice.
        bootstrap, seed: Number of bootstrap samples of patients, and their seed.

    Returns:
        Method → see `compare_tasks`; auroc: see `compare_auroc`; auroc_of_types: see `auroc_of_types`; n_patients and
        seeds.
    """
    options: dict[str, Any] = {"count": bootstrap, "seed": seed}
    bleeding = dice[dice["target"] == "any"]
    found = {str(name): compare_tasks(own, options) for name, own in bleeding.groupby("method", sort=False)}
    return {
        **found,
        "auroc": compare_auroc(scores, options),
        "auroc_of_types": auroc_of_types(scores[scores["task"] == "subtype"]),
        "n_patients": int(bleeding["patient"].nunique()),
        "seeds": sorted(int(value) for value in dice["seed"].unique()),
    }


def patient_means(dice: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of each patient's slices: rows (patient, seed), one column per task."""
    return dice.groupby(["patient", "seed", "task"])["dice"].mean().unstack("task")[list(COMPARED_TASKS)]


def compare_tasks(dice: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    """Paired comparison of the two tasks on the same patients, for the maps of one method.

    Args:
        dice: task, seed, patient, dice of one method; one row per slice.
        options: `count` and `seed` of the bootstrap.

    Returns:
        binary, subtype: the mean over patients of each one's mean over slices, then over seeds. difference (binary −
        subtype), p_value, effect_size and n_patients: from `metrics.compare`. by_seed: the difference of each seed.
        shares: see `variance_shares`.
    """
    by_seed = patient_means(dice)
    by_patient = by_seed.groupby("patient").mean()
    test = compare(by_patient["binary"], by_patient["subtype"], **options)
    means = by_seed.groupby("seed").mean()
    patient = pd.Series(by_patient.index)
    found: dict[str, Any] = {task: bootstrap_mean(by_patient[task], patient, **options) for task in COMPARED_TASKS}
    return found | {
        "difference": {"mean": test["difference"], "ci95": test["ci95"]},
        **{key: test[key] for key in ("p_value", "effect_size", "test", "n_patients")},
        "by_seed": {str(seed): float(value) for seed, value in (means["binary"] - means["subtype"]).items()},
        "shares": variance_shares(means),
    }


def variance_shares(means: pd.DataFrame) -> dict[str, float] | None:
    """Two-way decomposition of the variance of means [seeds, tasks].

    Returns:
        Shares of the sum of squares, which add up to 1: task, seed, and the rest (their interaction). None where all
        means are the same.
    """
    values = means.to_numpy()
    centered = values - values.mean()
    total = float((centered**2).sum())
    if total == 0:
        return None
    task = len(values) * float((centered.mean(axis=0) ** 2).sum()) / total
    seed = values.shape[1] * float((centered.mean(axis=1) ** 2).sum()) / total
    return {"task": task, "seed": seed, "rest": 1 - task - seed}


def compare_auroc(scores: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Estimate]:
    """AUROC of any bleed, mean over seeds, of both tasks on the same bootstrap samples of patients.

    Args:
        scores: task, seed, row, patient, any (0/1), score.
        options: `count` and `seed` of the bootstrap.

    Returns:
        binary, subtype, and difference (binary − subtype); None where all slices are of one class.
    """
    score = scores.pivot(index="row", columns=["task", "seed"], values="score")
    slices = scores.drop_duplicates("row").set_index("row").loc[score.index]
    truth = slices["any"].to_numpy() == 1
    columns = {"binary": (1, 0), "subtype": (0, 1), "difference": (1, -1)}
    if truth.all() or not truth.any():
        return {name: {"mean": None, "ci95": None} for name in columns}

    def areas(weight: Any) -> list[float]:
        return [
            float(np.mean([roc_auc_score(truth, score[task][seed], sample_weight=weight) for seed in score[task]]))
            for task in COMPARED_TASKS
        ]

    measured, samples = np.array(areas(None)), resampled(areas, truth, slices["patient"], **options)
    return {
        name: {
            "mean": float(measured @ weights),
            "ci95": np.percentile(samples @ weights, [2.5, 97.5]).tolist() if len(samples) else None,
        }
        for name, weights in columns.items()
    }


def auroc_of_types(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """AUROC of each subtype against all other slices.

    Args:
        scores: seed, the subtypes (0/1, or -1 where not annotated) and score_<type> of subtype classifiers.

    Returns:
        Subtype → mean over seeds, and by_seed; subtypes that no slice, or every slice, has are left out.
    """
    found = {}
    for name in SUBTYPES:
        annotated = scores[scores[name] >= 0]
        if annotated[name].nunique() == 2:
            by_seed = {
                str(seed): float(roc_auc_score(own[name], own[f"score_{name}"]))
                for seed, own in annotated.groupby("seed")
            }
            found[name] = {"mean": float(np.mean(list(by_seed.values()))), "by_seed": by_seed}
    return found


def head_agreement(heads: pd.DataFrame, *, column: str) -> pd.DataFrame:
    """Similarity of the attention heads of every pair of classifiers.

    Args:
        heads: task, seed, stage, block, head (0 is all heads together, and left out), and the column.
        column: A contrast, above 0; compared as its logarithm to base 2.

    Returns:
        One row per pair: pair (`SAME_SEED`, `SAME_TASK` or `NEITHER`), a and b; correlation: of heads with the same
        index, after subtracting the mean of each block, so that blocks which prefer the bleed as a whole don't count;
        distance: earth mover's distance between the heads of a block, whatever their order, mean over blocks. Only
        networks with the same initial weights have a reason to agree in the index of a head.
    """
    single = heads[heads["head"] > 0]
    table = np.log2(single.set_index(["stage", "block", "head", "task", "seed"])[column]).unstack(["task", "seed"])
    blocks = table.groupby(["stage", "block"])
    centered = table - blocks.transform("mean")
    rows = []
    for a, b in combinations(table.columns, 2):
        pair = SAME_SEED if a[1] == b[1] else SAME_TASK if a[0] == b[0] else NEITHER
        distances = [wasserstein_distance(block[a], block[b]) for _, block in blocks]
        names = {"a": f"{a[0]} {a[1]}", "b": f"{b[0]} {b[1]}"}
        correlation = centered[a].corr(centered[b])
        rows.append({"pair": pair, **names, "correlation": correlation, "distance": np.mean(distances)})
    return pd.DataFrame(rows).sort_values("pair", key=_order, kind="stable", ignore_index=True)


def _order(pairs: Sequence[str] | pd.Series) -> pd.Series:
    return pd.Series(pairs).map([SAME_SEED, SAME_TASK, NEITHER].index)
