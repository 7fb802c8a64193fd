"""Method comparison: Dice of map methods, and contrast of attention heads, over the bleeding slices of a set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.masks import Curves, dice_curve
from hgisam.evaluation.metrics import bootstrap_mean
from hgisam.evaluation.score_maps import ScoreMaps, score_maps_at
from hgisam.evaluation.thresholds import bleeding_slices, choose_thresholds, dice_at_best_threshold
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam_book.studies.heads import contrast, head_maps

Rows = npt.NDArray[np.int64]
Maps = npt.NDArray[np.float32]
Brain = npt.NDArray[np.uint8]
Restriction = Callable[[Maps, Brain], tuple[Maps, Brain]]


def bleeding_rows(prepared: PreparedDataset, split: str | None, *, most: int, seed: int) -> Rows:
    """Annotated bleeding slices of a split, or of all patients; of more than `most`, a random sample of so many.

    Args:
        prepared: With masks.
        split: "val", "test", or None for all patients.
        most: Largest number of slices.
        seed: Of the sample.

    Returns:
        [n] row numbers, ascending.

    Raises:
        InputError: If there are no masks, or no slice of the split bleeds.
    """
    rows = prepared.rows(split)
    rows = rows[(require_masks(prepared)[rows] > 0).any(axis=(1, 2))]
    if not len(rows):
        whose = f"{split or 'all'} patients of {prepared.path.name}"
        remedy = "Prepare more patients, or another data.validation_fraction."
        raise InputError(whose, "no bleeding slice", "at least one", remedy)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def dice_curves(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    grid: npt.NDArray[np.float64],
    *,
    restrict: Mapping[str, Restriction] | None = None,
) -> dict[str, Curves]:
    """Dice of every method on every slice at every threshold, without storing maps.

    Precision, batches and rounding of the maps are those of `hgisam.inference.extraction`.

    Args:
        predictor: Of the classifier.
        prepared: With masks.
        methods: Name → method.
        rows: [n] bleeding slices.
        grid: [T] ascending thresholds.
        restrict: Name → change of its maps and brain masks, both [B, H, W], before thresholding; for others predictions
            are restricted to the brain.

    Returns:
        Name → [n, T].
    """
    curves: dict[str, list[Curves]] = {name: [] for name in methods}
    for images, brain, truth in batches(predictor, prepared, rows):
        for name, method in methods.items():
            maps = predictor.maps(images, method, brain.shape[1]).astype(np.float32)
            maps, inside = restrict[name](maps, brain) if restrict and name in restrict else (maps, brain)
            curves[name].append(dice_curve(maps, truth, inside, grid))
    return {name: np.concatenate(parts) for name, parts in curves.items()}


def compare_methods(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Mapping[str, Rows],
    grid: npt.NDArray[np.float64],
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Dice of each method on the test slices, at the threshold that is best on the validation slices.

    Args:
        predictor, prepared, methods, grid: As in `dice_curves`.
        rows: "val" and "test" → slices.
        bootstrap, seed: As in `estimates`.

    Returns:
        One row per method: threshold, validation_dice; mean, low, high of the Dice of the test slices, with the 95 %
        interval over patients.
    """
    count = len(rows["val"])
    curves = dice_curves(predictor, prepared, methods, np.concatenate([rows["val"], rows["test"]]), grid)
    found = []
    for name, curve in curves.items():
        chosen, dice = dice_at_best_threshold(curve[:count], curve[count:], grid)
        found.append({"name": name, **{key: chosen[key] for key in ("threshold", "validation_dice")}, "value": dice})
    table = estimates(found, prepared, rows["test"], bootstrap=bootstrap, seed=seed)
    return table.set_index("name").rename_axis(None)


def dice_by_slice(
    prepared: PreparedDataset, score_maps: ScoreMaps, methods: Sequence[str], *, count: int
) -> pd.DataFrame:
    """Dice of every bleeding slice at the threshold of its fold.

    Args:
        prepared, score_maps, methods, count: As in `choose_thresholds`.

    Returns:
        One row per method and slice: method, fold, patient, row, dice, threshold.
    """
    chosen = choose_thresholds(prepared, score_maps, methods, count=count)
    parts = []
    for number, fold in enumerate(sorted(prepared.slices["fold"].unique())):
        rows, truth = bleeding_slices(by_fold(prepared, fold), "test")
        if not len(rows):
            continue
        brain, patient = prepared.brain[rows], prepared.slices["patient"].iloc[rows].to_numpy()
        for name, about in chosen.items():
            given = score_maps_at(name, score_maps, prepared, rows, brain)
            threshold = about["folds"][number]
            dice = dice_curve(given, truth, brain, np.array([threshold]))[:, 0]
            found = {"method": name, "fold": fold, "patient": patient, "row": rows, "dice": dice}
            parts.append(pd.DataFrame({**found, "threshold": threshold}))
    return pd.concat(parts, ignore_index=True)


def estimates(
    found: Sequence[Mapping[str, Any]], prepared: PreparedDataset, rows: Rows, *, bootstrap: int, seed: int
) -> pd.DataFrame:
    """Means of values per slice, with 95 % intervals over patients.

    Args:
        found: Records with any names, and "value" [n], one per slice.
        prepared: The set.
        rows: [n] slices.
        bootstrap, seed: Number of bootstrap samples of patients, and their seed, the same for each record.

    Returns:
        One row per record: its names, and mean, low, high in place of the values.
    """
    patient = prepared.slices["patient"].iloc[rows].reset_index(drop=True)
    table = []
    for record in found:
        names = {key: value for key, value in record.items() if key != "value"}
        estimate = bootstrap_mean(pd.Series(record["value"]), patient, count=bootstrap, seed=seed)
        low, high = estimate["ci95"] or (None, None)
        table.append(names | {"mean": estimate["mean"], "low": low, "high": high})
    return pd.DataFrame(table)


def head_contrasts(
    predictor: SlicePredictor, prepared: PreparedDataset, rows: Rows, *, gradient_at: str
) -> pd.DataFrame:
    """Contrast of the attention of each block and head on the bleed, with and without the gradient.

    Args:
        predictor, prepared: As in `dice_curves`.
        rows: [n] bleeding slices.
        gradient_at: "scores" or "weights", see `hgi_sam`.

    Returns:
        One row per head: stage, block, head, counted from 1, where head 0 is all heads of the block together; received
        and weighted: the median over slices of the `contrast` of either.
    """
    found: dict[tuple[int, int], list[Tensor]] = {}
    for images, brain, truth in batches(predictor, prepared, rows):
        regions = [torch.from_numpy(region).to(images.device) for region in (truth, brain)]
        heads_of = head_maps(predictor.model, images, predictor.task.bleeding, gradient_at=gradient_at)
        for place, heads in heads_of.items():
            both = torch.stack([heads.received, heads.weighted], dim=1)  # [B, 2, heads, rows, cols]
            both = torch.cat([both.mean(dim=2, keepdim=True), both], dim=2)
            found.setdefault((place.stage, place.block), []).append(contrast(both, *regions).cpu())
    tables = []
    for (stage, block), parts in found.items():
        received, weighted = torch.cat(parts).nanmedian(dim=0).values.numpy()
        columns = {"head": np.arange(len(received)), "received": received, "weighted": weighted}
        tables.append(pd.DataFrame({"stage": stage + 1, "block": block + 1, **columns}))
    return pd.concat(tables, ignore_index=True)


def batches(
    predictor: SlicePredictor, prepared: PreparedDataset, rows: Rows
) -> Iterator[tuple[Tensor, Brain, npt.NDArray[np.bool_]]]:
    """Batches of the input of the network [B, C, H, W], brain and ground truth [B, H, W]."""
    arrays = (prepared.hu, prepared.brain, require_masks(prepared))
    with tqdm(total=len(rows), desc="comparing", unit="slice") as bar:
        for start in range(0, len(rows), predictor.batch_size):
            batch = rows[start : start + predictor.batch_size]
            hu, brain, mask = (array[batch] for array in arrays)
            yield predictor.images(hu, brain), brain, mask > 0
            bar.update(len(batch))
