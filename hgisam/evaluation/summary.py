"""Summary of a run: detection and segmentation metrics with confidence intervals, and paired tests between methods."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from hgisam.data.labels import SUBTYPES
from hgisam.evaluation.metrics import Estimate, bootstrap_mean, compare, detection, holm, size_groups

VOLUME_EDGES_ML = (5, 15, 30, 60)  # between the size groups of a scan's bleeds
AREA_EDGES_MM2 = (100, 300, 1000)  # between those of a slice


def summarize(
    predictions: pd.DataFrame, measured: pd.DataFrame | None, thresholds: Mapping[str, Mapping[str, Any]], *,
    detection_threshold: float, bootstrap: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Detection and segmentation metrics of a run, each as {"mean", "ci95"} with intervals over patients.

    Args:
        predictions: From `predictions_table`; with area_mm2 if there are masks.
        measured: From `measure_scans`; None for a set without masks, where only detection is summarized.
        thresholds: Method → threshold, and what else its entry includes.
        detection_threshold: Operating point: score at and above which a slice is predicted to bleed.
        bootstrap, seed: Number of bootstrap samples of patients, and their seed.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"patient": list("aabb"), "any": [0, 1, 0, 1], "score": [0.1, 0.9, 0.2, 0.6]})
        >>> found = summarize(table, None, {}, detection_threshold=0.5, bootstrap=100, seed=0)
        >>> found["detection"]["swin"]["auroc"]
        {'mean': 1.0, 'ci95': [1.0, 1.0]}
    """
    options: dict[str, Any] = {"count": bootstrap, "seed": seed}
    found = {"swin": detection(predictions, detection_threshold, **options)}
    summary: dict[str, Any] = {"detection": found, "segmentation": {}, "comparisons": []}
    if measured is None:
        return summary
    labelled = measured.merge(predictions[["row", *SUBTYPES, "area_mm2"]], on="row", how="left")
    for method, threshold in thresholds.items():
        mine = labelled[labelled["method"] == method]
        plain, gated = (_segmentation(mine[mine["gated"] == value], options) for value in (False, True))
        gated = {f"{name}_gated": value for name, value in gated.items()}
        summary["segmentation"][method] = {**threshold, **plain, **gated, **_counts(mine[~mine["gated"]])}
    summary["comparisons"] = _comparisons(measured, options)
    return summary


def _comparisons(measured: pd.DataFrame, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Paired tests of all pairs of methods on the same patients, with Holm correction."""
    dice = measured[(measured["level"] == "slice") & (measured["metric"] == "dice") & ~measured["gated"]]
    per_patient = dice.groupby(["method", "patient"], sort=False)["value"].mean()
    tests = [
        {"a": a, "b": b, "metric": "dice_slice", **compare(per_patient[a], per_patient[b], **options)}
        for a, b in combinations(dice["method"].unique(), 2)
    ]
    corrected = holm([test["p_value"] for test in tests])
    return [test | {"p_holm": p} for test, p in zip(tests, corrected, strict=True)]


def _counts(mine: pd.DataFrame) -> dict[str, Any]:
    slices, scans = (mine[(mine["level"] == level) & (mine["metric"] == "dice")] for level in ("slice", "scan"))
    by_type = {name: int((slices[name] == 1).sum()) for name in SUBTYPES}
    negative = int((mine["metric"] == "false_positive_ml").sum())
    return {"n_slices": len(slices), "n_scans": len(scans), "n_slices_by_type": by_type, "n_scans_negative": negative}


def _segmentation(mine: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of one method; all estimates have the same bootstrap samples of patients."""

    def of(level: str, metric: str) -> pd.DataFrame:
        return mine[(mine["level"] == level) & (mine["metric"] == metric)]

    def estimate(rows: pd.DataFrame) -> Estimate:
        return bootstrap_mean(rows["value"], rows["patient"], **options)

    def by_size(rows: pd.DataFrame, size: pd.Series, edges: Sequence[float], unit: str) -> dict[str, Estimate]:
        group = size_groups(size, edges, unit)
        chosen = {str(name): rows[group == name] for name in group.cat.categories}
        return {name: {**estimate(some), "n": len(some)} for name, some in chosen.items()}

    dice, distance = of("slice", "dice"), of("slice", "hd95_mm")
    scan_dice, error = of("scan", "dice"), of("scan", "volume_error_ml")
    true_ml = of("scan", "volume_ml").set_index("study")["value"]
    sizes_ml = scan_dice["study"].map(true_ml).astype(float)  # of text where no scan bleeds
    absolute = error.assign(value=error["value"].abs())
    relative = absolute.assign(value=absolute["value"] / absolute["study"].map(true_ml).astype(float))
    return {
        "dice_slice": estimate(dice),
        "iou_slice": estimate(of("slice", "iou")),
        "dice_by_type": {name: estimate(dice[dice[name] == 1]) for name in SUBTYPES},
        "dice_by_area_mm2": by_size(dice, dice["area_mm2"], AREA_EDGES_MM2, "mm²"),
        "hd95_mm_slice": estimate(distance[distance["value"].notna()]),
        "n_hd95_undefined": int(distance["value"].isna().sum()),
        "dice_scan": estimate(scan_dice),
        "dice_by_volume_ml": by_size(scan_dice, sizes_ml, VOLUME_EDGES_ML, "ml"),
        "volume_error_ml": estimate(error),
        "absolute_volume_error_ml": estimate(absolute),
        "relative_volume_error": estimate(relative),
        "false_positive_ml": estimate(of("scan", "false_positive_ml")),
    }
