"""All results of an evaluation, written into one folder: predictions, metrics, localization, summary."""

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
    folder: str | Path, data: PreparedDataset, score_maps: ScoreMaps, scores: pd.DataFrame,
    thresholds: Mapping[str, Any], *, detection_threshold: float, profile_name: str, bootstrap: int, seed: int,
) -> None:  # fmt: skip
    """Writes predictions, metrics, localization (parquet) and `summary.json` of all slices of a set to a folder.

    Segmentation is measured where the set has masks, localization where it has boxes. `scores` has the columns row and
    score, `thresholds` is as `thresholds.json`; others as in `measure_scans` and `summarize`.
    """
    folder, options = Path(folder), {"bootstrap": bootstrap, "seed": seed}
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
    about = {"dataset": data.meta["name"], "source": data.meta["source"], "split": "folds" if own else "all"}
    if data.boxes is not None and not data.boxes.empty:
        boxes = localize(data, score_maps, by_slice)
        boxes.to_parquet(folder / "localisation.parquet", index=False)
        summary["localisation"] = summarize_localization(boxes, **options)
    write_json(folder / "summary.json", {"profile": profile_name, **about, **summary})


def with_lesion_sizes(predictions: pd.DataFrame, prepared: PreparedDataset) -> pd.DataFrame:
    """A table with a column row, with area_mm2 and volume_ml of the annotated bleed in that slice, 0 for none."""
    mask = require_masks(prepared)
    slices = prepared.slices.iloc[predictions["row"]]
    pixels = np.array([np.count_nonzero(mask[int(row)]) for row in predictions["row"]])  # one slice in memory at a time
    area_mm2 = pixels * slices["pixel_mm"].to_numpy() ** 2
    return predictions.assign(area_mm2=area_mm2, volume_ml=area_mm2 * slices["slice_mm"].to_numpy() / 1000)
