"""Localization with bounding boxes, for sets without masks: pointing game, energy in boxes, box hit rate."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.evaluation.masks import Floats, Masks, apply_threshold
from hgisam.evaluation.metrics import bootstrap_mean, hit
from hgisam.evaluation.score_maps import THRESHOLD_BASELINES, ScoreMaps, score_maps_at

HIT_IOU = 0.3  # overlap at which a box counts as found; the loosest of the three that Choe et al. average over
BATCH = 64  # slices in memory
EDGES = ["row0", "col0", "row1", "col1"]
Edges = npt.NDArray[np.float64]  # [box, 4] row0, col0, row1, col1


def localize(prepared: PreparedDataset, score_maps: ScoreMaps, thresholds: pd.DataFrame) -> pd.DataFrame:
    """Localization metrics of each method on each slice with boxes, and of each box.

    Args:
        prepared: With boxes.
        score_maps, thresholds: As in `hgisam.evaluation.scans.scans_of`.

    Returns:
        method, patient, row, metric, value. Of a slice: "pointing_game" (1 if the maximum within the brain is in a box;
        of tied maxima, the share that is), "pointing_by_chance" (the share of the brain that boxes cover),
        "energy_in_boxes" (their share of the map's sum; not for HU). Of a box: "box_hit" (1 if its IoU with the
        bounding box of a component of the mask is at least `HIT_IOU`).

    Raises:
        InputError: If the set has no boxes.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from pathlib import Path
        >>> hu, brain = np.full((1, 8, 8), 30, np.int16), np.ones((1, 8, 8), np.uint8)
        >>> hu[0, 2:4, 2:4] = 70
        >>> slices, boxes = pd.DataFrame({"patient": ["a"]}), pd.DataFrame([[0, 2, 2, 4, 4]], columns=["row", *EDGES])
        >>> data = PreparedDataset(Path("set"), {}, slices, hu, brain, None, boxes)
        >>> localize(data, {}, pd.DataFrame({"hu_threshold": [50.0]}))[["metric", "value"]].to_numpy().tolist()
        [['pointing_by_chance', 0.0625], ['pointing_game', 1.0], ['box_hit', 1.0]]

    Source: Zhang et al. 2018, IJCV 126:1084 (pointing game); Wang et al. 2020, Score-CAM (energy); Choe et al. 2020,
    CVPR (bounding boxes of the components of a mask).
    """
    if prepared.boxes is None or prepared.boxes.empty:
        remedy = "Use a set with boxes, such as CQ500 with BHX."
        raise InputError(f"boxes of {prepared.path}", "none", "at least one box", remedy)
    rows = np.unique(prepared.boxes["row"].to_numpy())
    boxes = {row: prepared.boxes.loc[prepared.boxes["row"] == row, EDGES].to_numpy() for row in rows}
    records: list[dict[str, Any]] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        brain: npt.NDArray[np.uint8] = prepared.brain[part]
        for method in thresholds.columns:
            maps = score_maps_at(method, score_maps, prepared, part, brain)
            masks = apply_threshold(maps, thresholds[method].to_numpy()[part], brain)
            for row, image, mask, inside in zip(part, maps, masks, brain > 0, strict=True):
                base = {"method": method, "patient": prepared.slices["patient"].iloc[row], "row": int(row)}
                values = _metrics_of(image, mask, inside, boxes[row], energy=method not in THRESHOLD_BASELINES)
                records += [base | {"metric": metric, "value": value} for metric, value in values]
    return pd.DataFrame(records)


def _metrics_of(image: Floats, mask: Masks, brain: Masks, boxes: Edges, *, energy: bool) -> Iterator[tuple[str, float]]:
    """(metric, value) of one slice and its boxes; see `localize`."""
    boxed = inside_boxes(boxes, image.shape) & brain
    yield "pointing_by_chance", float(boxed.sum() / max(brain.sum(), 1))
    can_hit = boxed.any() and np.ptp(image[brain]) > 0  # a constant map has no maximum
    yield "pointing_game", hit(image, boxed, brain, 1.0, within_mm=0) if can_hit else 0.0
    if energy:
        whole = float(image[brain].sum())
        yield "energy_in_boxes", float(image[boxed].sum()) / whole if whole > 0 else 0.0
    for best in box_iou(boxes, boxes_around(mask)).max(axis=1, initial=0.0):
        yield "box_hit", float(best >= HIT_IOU)


def inside_boxes(boxes: Edges, shape: tuple[int, ...]) -> Masks:
    """Pixels [row, col] whose center is in any of the boxes."""
    rows, cols = (np.arange(count)[:, None] + 0.5 for count in shape)
    in_rows = (rows >= boxes[:, 0]) & (rows < boxes[:, 2])  # [row, box]
    in_cols = (cols >= boxes[:, 1]) & (cols < boxes[:, 3])
    return np.asarray(in_rows.astype(np.int64) @ in_cols.T.astype(np.int64) > 0)


def boxes_around(mask: Masks) -> Edges:
    """Bounding box of each 8-connected component of a mask."""
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    found = ndimage.find_objects(components)
    return np.array([[r.start, c.start, r.stop, c.stop] for r, c in found], np.float64).reshape(-1, 4)


def box_iou(a: Edges, b: Edges) -> npt.NDArray[np.float64]:
    """Intersection over union [a, b] of two lists of boxes."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return np.asarray(both / (areas[0][:, None] + areas[1][None] - both))


def summarize_localization(table: pd.DataFrame, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Method → each metric of `localize` as {"mean", "ci95"} over patients, with n_slices and n_boxes."""
    options: dict[str, Any] = {"count": bootstrap, "seed": seed}
    summary: dict[str, Any] = {}
    for method, mine in table.groupby("method", sort=False):
        found = {str(m): bootstrap_mean(g["value"], g["patient"], **options) for m, g in mine.groupby("metric")}
        counts = {"n_slices": mine["row"].nunique(), "n_boxes": int((mine["metric"] == "box_hit").sum())}
        summary[str(method)] = {**found, **counts}
    return summary
