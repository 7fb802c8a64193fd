"""What each method of the ladder of labels is worth, by several measures beside its Dice."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam.data.labels import SUBTYPES
from hgisam.evaluation.metrics import Estimate, bootstrap_mean, patient_weights
from hgisam_book.studies.prices import on_frontier

DICE, FALSE_POSITIVE_ML, AUROC = "dice", "false_positive_ml", "auroc"
LOWER_IS_BETTER = (FALSE_POSITIVE_ML,)


def ladder_measures(
    dice: pd.DataFrame, masks: pd.DataFrame, slices: pd.DataFrame, minutes: pd.Series, *, count: int, seed: int
) -> pd.DataFrame:
    """Each measure of each method, with its 95 % interval over patients.

    Args:
        dice, masks: `dice.parquet` and `masks.parquet` of `ladder_step`.
        slices: Slice table of the set, for the types.
        minutes: Of annotation, indexed by method, for the frontiers.
        count, seed: As in `bootstrap_mean`.

    Returns:
        One row per method and measure: method, measure, mean, low, high; n, the slices, or scans of false positives;
        and frontier, True if no method that costs as much or less is as good.

        Measures are "dice" per bleeding slice; each of the `SUBTYPES`, the Dice of slices with this type alone;
        "false_positive_ml", the volume of the masks of a scan without a bleed; and "auroc" of the slices' scores. One
        that no slice or scan has is left out.
    """
    options = {"count": count, "seed": seed}
    of_type = slices[list(SUBTYPES)].iloc[dice["row"]].to_numpy() == 1
    alone = of_type.sum(axis=1) == 1
    typed = dice.assign(type=np.where(alone, np.array(SUBTYPES)[of_type.argmax(axis=1)], ""))
    studied = masks.assign(study=slices["study"].iloc[masks["row"]].to_numpy())
    rows = []
    for method in dict.fromkeys(dice["method"]):
        mine, scored = typed[typed["method"] == method], studied[studied["method"] == method]
        found = {DICE: mine, **{name: mine[mine["type"] == name] for name in SUBTYPES}}
        for name, part in found.items():
            rows.append(_row(method, name, bootstrap_mean(part["dice"], part["patient"], **options), len(part)))
        scans = scored[~scored["bleeds"]].groupby("study").agg({"mask_ml": "sum", "patient": "first"})
        false = bootstrap_mean(scans["mask_ml"], scans["patient"], **options)
        rows.append(_row(method, FALSE_POSITIVE_ML, false, len(scans)))
        rows.append(_row(method, AUROC, auroc(scored, **options), len(scored)))
    table = pd.DataFrame(rows).dropna(subset="mean").reset_index(drop=True)
    sign = np.where(table["measure"].isin(LOWER_IS_BETTER), -1, 1)
    table["frontier"] = False
    for _, part in table.assign(good=sign * table["mean"]).groupby("measure"):
        costs = minutes[part["method"]].to_numpy()
        table.loc[part.index, "frontier"] = on_frontier(costs, part["good"].to_numpy()[None])[0]
    return table


def _row(method: str, measure: str, estimate: Estimate, n: int) -> dict[str, Any]:
    low, high = estimate["ci95"] or (np.nan, np.nan)
    return {"method": method, "measure": measure, "mean": estimate["mean"], "low": low, "high": high, "n": n}


def auroc(scored: pd.DataFrame, *, count: int, seed: int) -> Estimate:
    """AUROC of slice scores with its 95 % interval over patients; None if all slices bleed, or none.

    The same estimate as that of `hgisam.evaluation.metrics.detection`, for all samples at once: the share of pairs of a
    bleeding and another slice in which the first has the higher score, half a pair for equal ones.

    Args:
        scored: Columns patient, bleeds and score, one row per slice.
        count, seed: As in `bootstrap_mean`.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 1982.
    """
    codes, patients = pd.factorize(scored["patient"])
    bleeds, score = scored["bleeds"].to_numpy(), scored["score"].to_numpy()
    if bleeds.all() or not bleeds.any():
        return {"mean": None, "ci95": None}
    positive, negative = score[bleeds, None], score[None, ~bleeds]
    ordered = (positive > negative) + 0.5 * (positive == negative)
    samples = np.concatenate([np.ones((1, len(patients))), patient_weights(len(patients), count, seed)])[:, codes]
    of_positive, of_negative = samples[:, bleeds], samples[:, ~bleeds]
    pairs = of_positive.sum(axis=1) * of_negative.sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares: npt.NDArray[np.float64] = ((of_positive @ ordered) * of_negative).sum(axis=1) / pairs
    return {"mean": float(shares[0]), "ci95": np.nanpercentile(shares[1:], [2.5, 97.5]).tolist()}
