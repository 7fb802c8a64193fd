"""How well does it detect, how well does it segment, and how sure can we be? The figures that a run is known by."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from hgisam.data.prepared import SUBTYPES
from hgisam.evaluation import metrics

VOLUME_EDGES_ML = (5, 15, 30, 60)  # between the groups of bleeds of a scan
AREA_EDGES_MM2 = (100, 300, 1000)  # between those of a slice


def summarize(
    predictions: pd.DataFrame,
    measured: pd.DataFrame | None,
    thresholds: Mapping[str, Mapping[str, Any]],
    *,
    detection_threshold: float,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """The figures that a run is known by, each measured value as {"mean", "ci95"} with intervals over patients.

    Args:
        predictions: From `predictions_table`, the slices that were measured; with area_mm2 if there are masks.
        measured: From `measure`, or None for a set without masks: then only detection is summarised.
        thresholds: Method → threshold, and what else is to stand beside it.
        detection_threshold: Score at and above which a slice is said to bleed.
        bootstrap: Samples of patients.
        seed: Of the bootstrap.
    """
    options: dict[str, Any] = {"count": bootstrap, "generator": np.random.default_rng(seed)}
    summary: dict[str, Any] = {
        "detection": {"swin": metrics.detection(predictions, detection_threshold, **options)},
        "segmentation": {},
        "comparisons": [],
    }
    if measured is None:
        return summary
    labelled = measured.merge(predictions[["row", *SUBTYPES, "area_mm2"]], on="row", how="left")
    for method, threshold in thresholds.items():
        mine = labelled[labelled["method"] == method]
        summary["segmentation"][method] = {**threshold, **_segmentation(mine, options)}
    summary["comparisons"] = _comparisons(measured, options)
    return summary


def _comparisons(measured: pd.DataFrame, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each pair of methods tested on the same patients, and what is left of each p-value where so many are tested."""
    dice = measured[(measured["level"] == "slice") & (measured["metric"] == "dice") & ~measured["gated"]]
    per_patient = dice.groupby(["method", "patient"], sort=False)["value"].mean()
    tests = [
        {"a": a, "b": b, "metric": "dice_slice", **metrics.compare(per_patient[a], per_patient[b], **options)}
        for a, b in combinations(dice["method"].unique(), 2)
    ]
    corrected = metrics.holm([test["p_value"] for test in tests])
    return [test | {"p_holm": p} for test, p in zip(tests, corrected, strict=True)]


def _segmentation(mine: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one method; see `summarize`."""
    figures: dict[str, Any] = {}
    for gated, suffix in ((False, ""), (True, "_gated")):
        part = mine[mine["gated"] == gated]
        found = {
            **_of_slices(part[part["level"] == "slice"], options),
            **_of_scans(part[part["level"] == "scan"], options),
        }
        figures |= {f"{name}{suffix}": value for name, value in found.items()}
    counted = mine[~mine["gated"]]
    slices, scans = (
        counted[(counted["level"] == level) & (counted["metric"] == "dice")] for level in ("slice", "scan")
    )
    figures["n_slices"], figures["n_scans"] = len(slices), len(scans)
    figures["n_slices_by_type"] = {name: int((slices[name] == 1).sum()) for name in SUBTYPES}
    figures["n_scans_negative"] = int((counted["metric"] == "false_positive_ml").sum())
    return figures


def _estimate(chosen: pd.DataFrame, options: Mapping[str, Any]) -> metrics.Estimate:
    return metrics.bootstrap_mean(chosen["value"], chosen["patient"], **options)


def _by_size(chosen: pd.DataFrame, group: pd.Series, options: Mapping[str, Any]) -> dict[str, metrics.Estimate]:
    """An estimate for each group of sizes, and of how many."""
    return {
        str(name): {**_estimate(chosen[group == name], options), "n": int((group == name).sum())}
        for name in group.cat.categories
    }


def _of_slices(slices: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    dice, apart = (slices[slices["metric"] == metric] for metric in ("dice", "hd95_mm"))
    defined = apart[apart["value"].notna()]
    return {
        "dice_slice": _estimate(dice, options),
        "iou_slice": _estimate(slices[slices["metric"] == "iou"], options),
        "dice_by_type": {name: _estimate(dice[dice[name] == 1], options) for name in SUBTYPES},
        "dice_by_area_mm2": _by_size(dice, metrics.size_groups(dice["area_mm2"], AREA_EDGES_MM2, "mm²"), options),
        "hd95_mm_slice": _estimate(defined, options),
        "n_hd95_undefined": len(apart) - len(defined),
    }


def _of_scans(scans: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, Any]:
    dice, error = (scans[scans["metric"] == metric] for metric in ("dice", "volume_error_ml"))
    true_ml = scans[scans["metric"] == "volume_ml"].set_index("study")["value"]
    size = metrics.size_groups(dice["study"].map(true_ml), VOLUME_EDGES_ML, "ml")
    absolute = error.assign(value=error["value"].abs())
    return {
        "dice_scan": _estimate(dice, options),
        "dice_by_volume_ml": _by_size(dice, size, options),
        "volume_error_ml": _estimate(error, options),
        "absolute_volume_error_ml": _estimate(absolute, options),
        "relative_volume_error": _estimate(
            absolute.assign(value=absolute["value"] / absolute["study"].map(true_ml)), options
        ),
        "false_positive_ml": _estimate(scans[scans["metric"] == "false_positive_ml"], options),
    }
