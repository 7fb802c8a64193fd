"""Segmentations by k-fold cross-validation: each slice by the network that held its fold out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.evaluation.score_maps import VALIDATION
from hgisam.inference.extraction import stream_maps
from hgisam.inference.predictor import Predictions, SlicePredictor, probability_of_bleeding


def extract_by_fold(
    name: str, predictors: Sequence[SlicePredictor], prepared: PreparedDataset, folder: str | Path
) -> None:
    """Writes `maps.zarr` and `scores.parquet` (row, score) of a segmenter that was trained once per fold.

    The group has two arrays, float16 [slice, row, col]: `name`, each slice by the network that held its fold out, and
    `<name>_validation`, each bleeding slice by the network whose early stopping used its fold: such slices choose
    thresholds, and the others are 0. A score is the largest probability in the slice of the first.

    Args:
        name: Of the method.
        predictors: The segmenter of each fold, in the order of the folds of `prepared`, the set they were trained on.
        folder: May hold what a stopped call left.
    """
    folds = sorted(prepared.slices["fold"].unique())
    splits = [by_fold(prepared, fold).slices["split"].to_numpy() for fold in folds]
    names = {"test": name, "val": name + VALIDATION}
    masks = require_masks(prepared)

    def predict(rows: slice) -> Predictions:
        hu, brain = prepared.hu[rows], prepared.brain[rows]
        maps = {array: np.zeros(hu.shape, np.float16) for array in names.values()}
        asked = {"test": np.ones(len(hu), np.bool_), "val": (masks[rows] > 0).any(axis=(1, 2))}
        for predictor, split in zip(predictors, splits, strict=True):
            for role, array in names.items():
                if (mine := (split[rows] == role) & asked[role]).any():
                    images = predictor.images(hu[mine], brain[mine])
                    maps[array][mine] = predictor.maps(images, probability_of_bleeding, hu.shape[1])
        return maps, maps[name].max(axis=(1, 2)).astype(np.float64)

    stream_maps(predict, names.values(), prepared, Path(folder), label=name)
