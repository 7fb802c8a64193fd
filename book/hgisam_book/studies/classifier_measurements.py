"""What one classifier is worth on a cohort with masks: scores of all slices, Dice of its maps, what its heads prefer.

A classifier never saw a mask, so it is measured on every patient; thresholds come from patients of another fold.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.prepared import LABELS, SUBTYPES, PreparedDataset, by_fold
from hgisam.errors import InputError
from hgisam.evaluation.masks import best_threshold, threshold_grid
from hgisam.inference.extraction import Method, autocast, images_of, methods_of
from hgisam.models.checkpoint import Checkpoint
from hgisam.training.fabric import make_fabric
from hgisam_book.studies.method_comparison import Curves, Rows, bleeding_rows, dice_curves, head_contrasts

METHODS = ("hgi_sam", "swin_sam")
HEAD_SLICES = 96  # enough for the median contrast of a head; all slices would take as long as the maps


def measure_classifier(checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, folder: Path) -> None:
    """Writes `scores.parquet`, `dice.parquet` and `heads.parquet`.

    Args:
        checkpoint: A trained classifier.
        profile: Sections `maps`, `evaluate` and `compute`; its seed draws the slices on which heads are looked at.
        prepared: With masks and folds.
        folder: Exists.

    Raises:
        InputError: If no slice bleeds, or a fold has no slice to choose a threshold on.
    """
    slice_scores(checkpoint, profile, prepared).to_parquet(folder / "scores.parquet", index=False)
    rows = bleeding_rows(prepared, None, most=len(prepared.slices), seed=profile.seed)
    dice = [dice_of_bleeding(checkpoint, profile, prepared, rows)]
    if set(SUBTYPES) <= set(checkpoint.task.classes):
        dice.append(dice_of_types(checkpoint, profile, prepared, rows))
    pd.concat(dice, ignore_index=True).to_parquet(folder / "dice.parquet", index=False)
    some = bleeding_rows(prepared, None, most=HEAD_SLICES, seed=profile.seed)
    heads = head_contrasts(checkpoint, profile, prepared, some, gradient_at=profile.maps.gradient_at)
    heads.to_parquet(folder / "heads.parquet", index=False)


def slice_scores(checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset) -> pd.DataFrame:
    """What the classifier says of every slice.

    Returns:
        row, patient, the labels (0/1), and the columns of the classifier's task: score, score_<type>.
    """
    device, task = make_fabric(profile.compute).device, checkpoint.task
    checkpoint.model.to(device)
    count, step = len(prepared.slices), profile.maps.batch_size
    said = []
    with tqdm(total=count, desc="scores", unit="slice") as bar:
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            images = images_of(checkpoint, prepared.hu[rows], prepared.brain[rows], device)
            with torch.inference_mode(), autocast(profile, device):
                logits = checkpoint.model(images)
            labels = torch.tensor(prepared.slices[list(LABELS)].to_numpy()[rows], device=device)
            said.append(task.measure(logits, labels).cpu())
            bar.update(len(images))
    table = prepared.slices[["patient", *LABELS]].copy()
    table.insert(0, "row", np.arange(count))
    return table.assign(**dict(zip(task.columns, torch.cat(said).double().numpy().T, strict=True)))


def dice_of_bleeding(checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, rows: Rows) -> pd.DataFrame:
    """Dice of the maps of "any bleed", by `METHODS`.

    Args:
        checkpoint, profile, prepared: As in `measure_classifier`.
        rows: [n] slices, something drawn in each.

    Returns:
        target ("any"), method, patient, row, fold, threshold, dice; a row a slice and method.
    """
    curves = dice_curves(checkpoint, profile, prepared, methods_of(profile, METHODS), rows)
    grid = threshold_grid(profile.evaluate.thresholds)
    tables = [dice_by_folds(prepared, rows, curve, grid).assign(method=name) for name, curve in curves.items()]
    return pd.concat(tables, ignore_index=True).assign(target="any")


def dice_of_types(checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, rows: Rows) -> pd.DataFrame:
    """Dice of HGI-SAM of each type's own logit, where that type is alone, so that all that is drawn is of it.

    One threshold a fold serves all types: single types have too few slices to choose on.

    Args:
        checkpoint: Of the task subtype; the others as in `dice_of_bleeding`.

    Returns:
        As `dice_of_bleeding`; target is the type. Empty where no slice shows a single type, as in a set whose labels
        don't name them.
    """
    types = prepared.slices[list(SUBTYPES)].to_numpy()[rows] == 1
    alone = types.sum(axis=1) == 1
    rows, kinds = rows[alone], np.array(SUBTYPES)[types[alone].argmax(axis=1)]
    grid = threshold_grid(profile.evaluate.thresholds)
    curves = np.empty((len(rows), len(grid)))
    method = methods_of(profile, ["hgi_sam"])["hgi_sam"]
    for name in dict.fromkeys(kinds):
        own = {name: of_class(method, checkpoint.task.classes.index(name))}
        curves[kinds == name] = dice_curves(checkpoint, profile, prepared, own, rows[kinds == name])[name]
    return dice_by_folds(prepared, rows, curves, grid).assign(method="hgi_sam", target=kinds)


def of_class(method: Method, number: int) -> Method:
    """The method, asked for another class than the one it is given."""

    def ask(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return method(model, images, number)

    return ask


def dice_by_folds(prepared: PreparedDataset, rows: Rows, curves: Curves, grid: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Dice of every slice at the threshold that is best on the slices of the next fold, see `by_fold`.

    Args:
        prepared: Whose folds count.
        rows: [n] slices.
        curves: [n, thresholds] Dice of each.
        grid: [thresholds].

    Returns:
        patient, row, fold, threshold, dice, in the order of `rows`.

    Raises:
        InputError: If a fold has no slice to choose on.
    """
    table = prepared.slices[["patient", "fold"]].iloc[rows].assign(row=rows).reset_index(drop=True)
    threshold, dice = np.full((2, len(rows)), np.nan)
    for fold in table["fold"].unique():
        split = by_fold(prepared, fold).slices["split"].to_numpy()[rows]
        if not (split == "val").any():
            remedy = "Prepare more patients, or fewer data.folds."
            whose = f"the fold after fold {fold} of {prepared.path.name}"
            raise InputError(whose, "no such bleeding slice", "at least one", remedy)
        chosen = best_threshold(curves[split == "val"], grid)["threshold"]
        threshold[split == "test"] = chosen
        dice[split == "test"] = curves[split == "test", np.searchsorted(grid, chosen)]
    return table.assign(threshold=threshold, dice=dice)
