"""Masks of all methods, scan by scan."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.evaluation.masks import Brain, Masks, apply_threshold
from hgisam.evaluation.score_maps import Rows, ScoreMaps, score_maps_at


@dataclass(frozen=True)
class Scan:
    """The slices of one study with the masks of all methods."""

    slices: pd.DataFrame  # their rows of the predictions
    rows: Rows  # [n] in the prepared set
    brain: Brain  # [n, row, col]
    truth: Masks  # [n, row, col]
    masks: Iterator[tuple[str, Masks]]  # method and its mask [n, row, col], computed one after the other


def scans_of(
    prepared: PreparedDataset, score_maps: ScoreMaps, thresholds: pd.DataFrame, predictions: pd.DataFrame
) -> Iterator[Scan]:
    """Each scan of a set that has masks, with those of all methods at their thresholds.

    Args:
        prepared: The set.
        score_maps: From `read_score_maps`.
        thresholds: [slice, method] from `thresholds_by_slice`.
        predictions: The slices, from `predictions_table`.
    """

    def masks_of(rows: Rows, brain: Brain) -> Iterator[tuple[str, Masks]]:
        for method in map(str, thresholds):
            maps = score_maps_at(method, score_maps, prepared, rows, brain)
            yield method, apply_threshold(maps, thresholds[method].iloc[rows].to_numpy(), brain)

    for _, slices in predictions.groupby("study", sort=False):
        rows = slices["row"].to_numpy()
        brain = prepared.brain[rows]
        yield Scan(slices, rows, brain, require_masks(prepared)[rows] > 0, masks_of(rows, brain))
