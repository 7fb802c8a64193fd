"""Rivals measured alike: any map methods, and single heads, over the bleeding slices of a set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.masks import best_threshold, dice_curve, threshold_grid
from hgisam.evaluation.metrics import bootstrap_mean
from hgisam.inference.extraction import Method, images_of, maps_of
from hgisam.models.checkpoint import Checkpoint
from hgisam.training.fabric import make_fabric
from hgisam_book.studies.heads import contrast, head_maps

Rows = npt.NDArray[np.int64]
Curves = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]
Brain = npt.NDArray[np.uint8]
Restriction = Callable[[Maps, Brain], tuple[Maps, Brain]]


def bleeding_rows(prepared: PreparedDataset, split: str | None, *, most: int, seed: int) -> Rows:
    """Slices of a split, or of all, in which something is drawn, in their order; of more than `most`, so many of them.

    Args:
        prepared: With masks.
        split: "val", "test", or None for all patients.
        most: How many at most.
        seed: Decides which.

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
    checkpoint: Checkpoint,
    profile: Profile,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    restrict: Mapping[str, Restriction] | None = None,
) -> dict[str, Curves]:
    """Dice of every method on every slice at every threshold; no map outlives its batch.

    Maps are made as extraction makes them: in the same precision, batches and rounding.

    Args:
        checkpoint: The trained classifier.
        profile: Sections `maps`, `evaluate` and `compute`.
        prepared: With masks.
        methods: Name → method of `hgisam.maps`, its options bound to it.
        rows: [n] slices, something drawn in each.
        restrict: Name → what is done to its maps and brain masks, both [B, H, W], before anything is called blood; of
            all others, the map as it is within the whole brain.

    Returns:
        Name → [n, thresholds].
    """
    grid = threshold_grid(profile.evaluate.thresholds)
    curves: dict[str, list[Curves]] = {name: [] for name in methods}
    for images, brain, truth in batches(checkpoint, profile, prepared, rows):
        for name, method in methods.items():
            maps = maps_of(method, checkpoint, images, profile, brain.shape[1]).astype(np.float32)
            maps, inside = restrict[name](maps, brain) if restrict and name in restrict else (maps, brain)
            curves[name].append(dice_curve(maps, truth, inside, grid))
    return {name: np.concatenate(parts) for name, parts in curves.items()}


def compare_methods(
    checkpoint: Checkpoint,
    profile: Profile,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Mapping[str, Rows],
) -> pd.DataFrame:
    """Each method with the threshold that is best on the validation slices, and what it is worth on the test slices.

    Args:
        checkpoint, profile, prepared, methods: As in `dice_curves`.
        rows: "val" and "test" → slices.

    Returns:
        A row a method: threshold, validation_dice; mean, low, high of the Dice of the test slices, with the 95 %
        interval over patients.
    """
    grid, count = threshold_grid(profile.evaluate.thresholds), len(rows["val"])
    curves = dice_curves(checkpoint, profile, prepared, methods, np.concatenate([rows["val"], rows["test"]]))
    found = []
    for name, curve in curves.items():
        chosen, dice = at_best_threshold(curve, count, grid)
        found.append({"name": name, **{key: chosen[key] for key in ("threshold", "validation_dice")}, "value": dice})
    return estimates(found, profile, prepared, rows["test"]).set_index("name").rename_axis(None)


def estimates(
    found: Sequence[Mapping[str, Any]], profile: Profile, prepared: PreparedDataset, rows: Rows
) -> pd.DataFrame:
    """What was measured on slices as means, with 95 % intervals over patients.

    Args:
        found: Each with whatever names it, and "value" [n], one a slice.
        profile: Section `evaluate` and the seed.
        prepared: Whose slices they are.
        rows: [n] slices.

    Returns:
        A row each: its names, and mean, low, high in place of the values.
    """
    patient = prepared.slices["patient"].iloc[rows].reset_index(drop=True)
    table = []
    for record in found:
        generator = np.random.default_rng(profile.seed)
        names = {key: value for key, value in record.items() if key != "value"}
        values = pd.Series(record["value"])
        estimate = bootstrap_mean(values, patient, count=profile.evaluate.bootstrap, generator=generator)
        table.append(names | {"mean": estimate["mean"]} | dict(zip(("low", "high"), estimate["ci95"], strict=True)))
    return pd.DataFrame(table)


def at_best_threshold(curve: Curves, count: int, grid: Curves) -> tuple[dict[str, Any], Curves]:
    """The threshold that is best on the first `count` slices, and the Dice of all others there.

    Args:
        curve: [n, thresholds] of one method.
        count: How many slices the threshold is chosen on.
        grid: [thresholds].
    """
    chosen = best_threshold(curve[:count], grid)
    dice: Curves = curve[count:, chosen["grid"].index(chosen["threshold"])]
    return chosen, dice


def head_contrasts(
    checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, rows: Rows, *, gradient_at: str
) -> pd.DataFrame:
    """Which block and which head prefers the bleed, with and without the gradient.

    Args:
        checkpoint, profile, prepared: As in `dice_curves`.
        rows: [n] slices, something drawn in each.
        gradient_at: "scores" or "weights", see `hgi_sam`.

    Returns:
        A row a head: stage, block, head, counted from 1, where head 0 is all of the block's heads together; received
        and weighted: the median over slices of the `contrast` of either.
    """
    found: dict[tuple[int, int], list[Tensor]] = {}
    for images, brain, truth in batches(checkpoint, profile, prepared, rows):
        regions = [torch.from_numpy(region).to(images.device) for region in (truth, brain)]
        for place, heads in head_maps(
            checkpoint.model, images, checkpoint.task.bleeding, gradient_at=gradient_at
        ).items():
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
    checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, rows: Rows
) -> Iterator[tuple[Tensor, Brain, npt.NDArray[np.bool_]]]:
    """Images on the profile's device, brain and truth [B, H, W] of some slices at a time; the model goes there too."""
    device = make_fabric(profile.compute).device
    checkpoint.model.to(device)
    arrays = (prepared.hu, prepared.brain, require_masks(prepared))
    with tqdm(total=len(rows), desc="comparing", unit="slice") as bar:
        for start in range(0, len(rows), profile.maps.batch_size):
            batch = rows[start : start + profile.maps.batch_size]
            hu, brain, mask = (array[batch] for array in arrays)
            yield images_of(checkpoint, hu, brain, device), brain, mask > 0
            bar.update(len(batch))
