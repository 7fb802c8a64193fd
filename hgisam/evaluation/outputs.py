"""All measurements on a prepared set, written into one folder: predictions, metrics, localization, summary."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.evaluation.localization import localize, summarize_localization
from hgisam.evaluation.measurements import measure_scans, predictions_table
from hgisam.evaluation.score_maps import ScoreMaps
from hgisam.evaluation.summary import summarize
from hgisam.evaluation.thresholds import chosen_on, thresholds_by_slice
from hgisam.runs.files import write_json

log = logging.getLogger(__name__)


def write_evaluation(
    folder: Path,
    data: PreparedDataset,
    score_maps: ScoreMaps,
    scores: pd.DataFrame,
    thresholds: Mapping[str, Any],
    *,
    detection_threshold: float,
    profile_name: str,
    bootstrap: int,
    seed: int,
) -> None:
    """Writes predictions, metrics, localization (parquet) and `summary.json` of all slices of a set.

    Args:
        folder: Exists.
        data: Without masks no segmentation is measured, without boxes no localization.
        score_maps: From `read_score_maps`.
        scores: row, score.
        thresholds: As `thresholds.json`.
        detection_threshold: Score at and above which a slice is predicted to bleed.
        profile_name: For the summary.
        bootstrap: Samples of patients.
        seed: Of the bootstrap.
    """
    options = {"bootstrap": bootstrap, "seed": seed}
    predictions = predictions_table(data, scores, detection_threshold)
    by_slice = thresholds_by_slice(data, thresholds)
    measured, own = None, chosen_on(data, thresholds)
    if data.mask is None:
        log.warning("%s has no masks: %s only", data.path, "detection" if data.boxes is None else "detection and boxes")
    else:
        predictions = with_lesion_sizes(predictions, data)
        measured = measure_scans(data, score_maps, by_slice, predictions)
        measured.to_parquet(folder / "metrics.parquet", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    used = {
        name: {"threshold": chosen["threshold"], **({"thresholds_by_fold": chosen["folds"]} if own else {})}
        for name, chosen in thresholds["methods"].items()
    }
    summary = summarize(predictions, measured, used, detection_threshold=detection_threshold, **options)
    about = {
        "profile": profile_name,
        "dataset": data.meta["name"],
        "source": data.meta["source"],
        "split": "folds" if own else "all",
    }
    if data.boxes is not None:
        boxes = localize(data, score_maps, by_slice)
        boxes.to_parquet(folder / "localisation.parquet", index=False)
        summary["localisation"] = summarize_localization(boxes, **options)
    write_json(folder / "summary.json", {**about, **summary})


def with_lesion_sizes(predictions: pd.DataFrame, prepared: PreparedDataset) -> pd.DataFrame:
    """Predictions with the size of the annotated bleed in each slice.

    Args:
        predictions: Column row: the slice of `prepared`.
        prepared: With masks.

    Returns:
        `predictions` and the columns area_mm2 and volume_ml, 0 where nothing is annotated.

    Raises:
        InputError: If there are no masks.
    """
    mask = require_masks(prepared)
    slices = prepared.slices.iloc[predictions["row"]]
    pixels = np.array([np.count_nonzero(mask[int(row)]) for row in predictions["row"]])  # a slice in memory at a time
    area_mm2 = pixels * slices["pixel_mm"].to_numpy() ** 2
    return predictions.assign(area_mm2=area_mm2, volume_ml=area_mm2 * slices["slice_mm"].to_numpy() / 1000)
