"""Localisation where nobody drew masks: does a map point into the boxes around the bleeds?"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.evaluation import metrics
from hgisam.evaluation.masks import apply_threshold
from hgisam.evaluation.score_maps import THRESHOLD_BASELINES, ScoreMaps, score_maps_at

HIT_IOU = 0.3  # overlap at which a box counts as found; the loosest of the three that Choe et al. average over
BATCH = 64  # slices in memory
EDGES = ["row0", "col0", "row1", "col1"]
Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Edges = npt.NDArray[np.float64]  # [box, 4] row0, col0, row1, col1


def localize(prepared: PreparedDataset, values: ScoreMaps, thresholds: pd.DataFrame) -> pd.DataFrame:
    """What each method makes of each slice that has boxes, and of each box.

    Args:
        prepared: With boxes.
        values: From `read_score_maps`.
        thresholds: [slice] a column a method, as for `hgisam.evaluation.scans.scans_of`.

    Returns:
        A row a figure: method, patient, row, metric, value. Metrics of a slice: "pointing_game" (1 where the largest
        value inside the brain lies in a box; of several as large, the share that does), "pointing_by_chance" (the share
        of the brain that boxes cover, which a dart would hit), "energy_in_boxes" (the share of a map's sum inside the
        brain; not for HU). Metric of a box: "box_hit" (1 where the box around a part of the mask overlaps it with an
        IoU of `HIT_IOU`).

    Raises:
        InputError: If the set has no boxes.

    Source: Zhang et al. 2018, IJCV 126:1084 (pointing game); Wang et al. 2020, Score-CAM (energy); Choe et al. 2020,
    CVPR (boxes around parts of a mask).
    """
    if prepared.boxes is None or prepared.boxes.empty:
        remedy = "Use a set with boxes, such as CQ500 with BHX."
        raise InputError(f"boxes of {prepared.path}", "none", "at least one box", remedy)
    rows = np.unique(prepared.boxes["row"].to_numpy())
    drawn = {row: prepared.boxes.loc[prepared.boxes["row"] == row, EDGES].to_numpy() for row in rows}
    records: list[dict[str, Any]] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        brain: npt.NDArray[np.uint8] = prepared.brain[part]
        for method in thresholds.columns:
            given = score_maps_at(method, values, prepared, part, brain)
            masks = apply_threshold(given, thresholds[method].to_numpy()[part], brain)
            for row, image, mask, inside in zip(part, given, masks, brain > 0, strict=True):
                base = {"method": method, "patient": prepared.slices["patient"].iloc[row], "row": int(row)}
                figures = _figures(image, mask, inside, drawn[row], energy=method not in THRESHOLD_BASELINES)
                records += [base | {"metric": metric, "value": value} for metric, value in figures]
    return pd.DataFrame(records)


def _figures(image: Floats, mask: Bools, brain: Bools, boxes: Edges, *, energy: bool) -> Iterator[tuple[str, float]]:
    """(metric, value) of one slice and its boxes; see `localize`."""
    boxed = inside_boxes(boxes, image.shape) & brain
    yield "pointing_by_chance", float(boxed.sum() / max(brain.sum(), 1))
    can_hit = boxed.any() and np.ptp(image[brain]) > 0  # a map that is the same everywhere points nowhere
    yield "pointing_game", metrics.hit(image, boxed, brain, 1.0, within_mm=0) if can_hit else 0.0
    if energy:
        whole = float(image[brain].sum())
        yield "energy_in_boxes", float(image[boxed].sum()) / whole if whole > 0 else 0.0
    overlap = box_iou(boxes, boxes_around(mask))
    for best in overlap.max(axis=1, initial=0.0):
        yield "box_hit", float(best >= HIT_IOU)


def inside_boxes(boxes: Edges, shape: tuple[int, ...]) -> Bools:
    """[row, col] whether a pixel's centre lies in any of the boxes."""
    rows, cols = (np.arange(count)[:, None] + 0.5 for count in shape)
    in_rows = (rows >= boxes[:, 0]) & (rows < boxes[:, 2])  # [row, box]
    in_cols = (cols >= boxes[:, 1]) & (cols < boxes[:, 3])
    return np.asarray(in_rows.astype(np.int64) @ in_cols.T.astype(np.int64) > 0)


def boxes_around(mask: Bools) -> Edges:
    """The smallest box around each part of a mask; parts that touch by a corner are one."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    found = ndimage.find_objects(parts)
    return np.array([[r.start, c.start, r.stop, c.stop] for r, c in found], np.float64).reshape(-1, 4)


def box_iou(a: Edges, b: Edges) -> npt.NDArray[np.float64]:
    """[a, b] intersection over union of two lists of boxes."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return np.asarray(both / (areas[0][:, None] + areas[1][None] - both))


def summarize_localization(table: pd.DataFrame, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Method → each metric of `localize` as {"mean", "ci95"} over patients, and how many slices and boxes.

    Args:
        table: From `localize`.
        bootstrap: Samples of patients.
        seed: Of the bootstrap.
    """
    options: dict[str, Any] = {"count": bootstrap, "generator": np.random.default_rng(seed)}

    def of(mine: pd.DataFrame) -> Mapping[str, Any]:
        figures = {
            str(metric): metrics.bootstrap_mean(group["value"], group["patient"], **options)
            for metric, group in mine.groupby("metric")
        }
        return {**figures, "n_slices": mine["row"].nunique(), "n_boxes": int((mine["metric"] == "box_hit").sum())}

    return {str(method): of(mine) for method, mine in table.groupby("method", sort=False)}
