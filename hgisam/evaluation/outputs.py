"""Everything that is measured on a prepared set, written into one folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.evaluation.localization import localize, summarize_localization
from hgisam.evaluation.measurements import measure, predictions_table
from hgisam.evaluation.score_maps import ScoreMaps
from hgisam.evaluation.summary import summarize
from hgisam.evaluation.thresholds import chosen_on, thresholds_by_slice
from hgisam.models.checkpoint import Checkpoint
from hgisam.runs.files import write_json

log = logging.getLogger(__name__)


def write_evaluation(
    folder: Path,
    checkpoint: Checkpoint,
    profile: Profile,
    data: PreparedDataset,
    values: ScoreMaps,
    scores: pd.DataFrame,
    thresholds: Mapping[str, Any],
) -> None:
    """Writes predictions, metrics, localisation and summary of all slices of a set into `folder`.

    Args:
        folder: Exists.
        checkpoint: Of the classifier, for its own threshold of what bleeds.
        profile: Section `evaluate` and the seed.
        data: With masks, or no segmentation is measured; with boxes, or no localisation is.
        values: From `read_score_maps`.
        scores: row, score.
        thresholds: As `thresholds.json`.
    """
    predictions = predictions_table(data, scores, checkpoint.detection_threshold)
    measured, own = None, chosen_on(data, thresholds)
    if data.mask is None:
        log.warning("%s has no masks: %s only", data.path, "detection" if data.boxes is None else "detection and boxes")
    else:
        predictions = with_lesion_sizes(predictions, data)
        measured = measure(data, values, thresholds_by_slice(data, thresholds), predictions)
        measured.to_parquet(folder / "metrics.parquet", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    used = {
        name: {"threshold": chosen["threshold"], **({"thresholds_by_fold": chosen["folds"]} if own else {})}
        for name, chosen in thresholds["methods"].items()
    }
    options = {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}
    summary = summarize(predictions, measured, used, detection_threshold=checkpoint.detection_threshold, **options)
    about = {
        "profile": profile.name,
        "dataset": data.meta["name"],
        "source": data.meta["source"],
        "split": "folds" if own else "all",
    }
    if data.boxes is not None:
        boxes = localize(data, values, thresholds_by_slice(data, thresholds))
        boxes.to_parquet(folder / "localisation.parquet", index=False)
        summary["localisation"] = summarize_localization(boxes, **options)
    write_json(folder / "summary.json", {**about, **summary})


def with_lesion_sizes(predictions: pd.DataFrame, prepared: PreparedDataset) -> pd.DataFrame:
    """Predictions with the size of what is drawn in each slice.

    Args:
        predictions: Column row: the slice of `prepared`.
        prepared: With masks.

    Returns:
        `predictions` and the columns area_mm2 and volume_ml, 0 where nothing is drawn.

    Raises:
        InputError: If there are no masks.
    """
    mask = require_masks(prepared)
    slices = prepared.slices.iloc[predictions["row"]]
    pixels = np.array([np.count_nonzero(mask[int(row)]) for row in predictions["row"]])  # a slice in memory at a time
    area_mm2 = pixels * slices["pixel_mm"].to_numpy() ** 2
    return predictions.assign(area_mm2=area_mm2, volume_ml=area_mm2 * slices["slice_mm"].to_numpy() / 1000)
