"""What each method calls blood, scan by scan."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.evaluation.masks import apply_threshold
from hgisam.evaluation.score_maps import ScoreMaps, score_maps_at


@dataclass(frozen=True)
class Scan:
    """The slices of one study, and the masks of all methods.

    Attributes:
        slices: Of the predictions.
        rows: In the prepared set [n].
        brain: uint8 [n, row, col].
        truth: What is drawn, bool [n, row, col].
        masks: Method and its mask [n, row, col], made one after the other.
    """

    slices: pd.DataFrame
    rows: npt.NDArray[np.int64]
    brain: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.bool_]
    masks: Iterator[tuple[str, npt.NDArray[np.bool_]]]


def scans_of(
    prepared: PreparedDataset, values: ScoreMaps, thresholds: pd.DataFrame, predictions: pd.DataFrame
) -> Iterator[Scan]:
    """Scan by scan, what each method calls blood at its thresholds.

    Args:
        prepared: With masks.
        values: From `read_score_maps`.
        thresholds: From `thresholds_by_slice`; its columns are the methods.
        predictions: The slices, from `predictions_table`.
    """
    for _, slices in predictions.groupby("study", sort=False):
        rows = slices["row"].to_numpy()
        brain, truth = prepared.brain[rows], require_masks(prepared)[rows] > 0

        def masks(
            rows: npt.NDArray[np.int64] = rows, brain: npt.NDArray[np.uint8] = brain
        ) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
            for method in map(str, thresholds):
                given = score_maps_at(method, values, prepared, rows, brain)
                yield method, apply_threshold(given, thresholds[method].iloc[rows].to_numpy(), brain)

        yield Scan(slices, rows, brain, truth, masks())
