"""Scores, Dice of the maps and contrasts of the attention heads of one classifier, on a set with masks.

A classifier trains without masks, so all patients are test patients; thresholds come from patients of another fold.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.data.prepared import PreparedDataset, by_fold
from hgisam.errors import InputError
from hgisam.evaluation.masks import Curves
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam_book.studies.method_comparison import (
    Rows,
    bleeding_rows,
    dice_at_best_threshold,
    dice_curves,
    head_contrasts,
)

MEASURED = ("hgi_sam", "swin_sam")  # methods
HEAD_SLICES = 96  # enough for the median contrast of a head; all slices would take as long as the maps


def measure_classifier(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    folder: str | Path,
    *,
    grid: npt.NDArray[np.float64],
    gradient_at: str,
    seed: int,
) -> None:
    """Writes `scores.parquet`, `dice.parquet` and `heads.parquet`.

    Args:
        predictor: Of a trained classifier.
        prepared: With masks and folds.
        methods: Name → method, `MEASURED` among them.
        folder: Exists.
        grid: [T] ascending thresholds.
        gradient_at: Of the head contrasts, see `hgi_sam`.
        seed: Samples the slices on which heads are measured.

    Raises:
        InputError: If no slice bleeds, or a fold has no bleeding slice to choose a threshold on.
    """
    folder = Path(folder)
    slice_scores(predictor, prepared).to_parquet(folder / "scores.parquet", index=False)
    rows = bleeding_rows(prepared, None, most=len(prepared.slices), seed=seed)
    dice = [dice_of_bleeding(predictor, prepared, methods, rows, grid)]
    if set(SUBTYPES) <= set(predictor.task.classes):
        dice.append(dice_of_types(predictor, prepared, methods["hgi_sam"], rows, grid))
    pd.concat(dice, ignore_index=True).to_parquet(folder / "dice.parquet", index=False)
    some = bleeding_rows(prepared, None, most=HEAD_SLICES, seed=seed)
    heads = head_contrasts(predictor, prepared, some, gradient_at=gradient_at)
    heads.to_parquet(folder / "heads.parquet", index=False)


def slice_scores(predictor: SlicePredictor, prepared: PreparedDataset) -> pd.DataFrame:
    """Scores of every slice by a classifier.

    Returns:
        row, patient, the labels (0/1), and the columns of the classifier's task: score, score_<type>.
    """
    count, step, task = len(prepared.slices), predictor.batch_size, predictor.task
    outputs = []
    with tqdm(total=count, desc="scores", unit="slice") as bar:
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            logits = predictor.logits(predictor.images(prepared.hu[rows], prepared.brain[rows]))
            labels = torch.tensor(prepared.slices[list(LABELS)].to_numpy()[rows], device=predictor.device)
            outputs.append(task.measure(logits, labels).cpu())
            bar.update(len(logits))
    table = prepared.slices[["patient", *LABELS]].copy()
    table.insert(0, "row", np.arange(count))
    return table.assign(**dict(zip(task.columns, torch.cat(outputs).double().numpy().T, strict=True)))


def dice_of_bleeding(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    grid: npt.NDArray[np.float64],
) -> pd.DataFrame:
    """Dice of the maps of "any bleed".

    Args:
        predictor, prepared, methods, grid: As in `measure_classifier`.
        rows: [n] bleeding slices.

    Returns:
        target ("any"), method, patient, row, fold, threshold, dice; one row per slice and method.
    """
    curves = dice_curves(predictor, prepared, {name: methods[name] for name in MEASURED}, rows, grid)
    tables = [dice_by_folds(prepared, rows, curve, grid).assign(method=name) for name, curve in curves.items()]
    return pd.concat(tables, ignore_index=True).assign(target="any")


def dice_of_types(
    predictor: SlicePredictor, prepared: PreparedDataset, method: Method, rows: Rows, grid: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Dice of the maps of each subtype's logit, on slices with only this subtype, whose whole mask is of it.

    All subtypes share one threshold per fold: single subtypes have too few slices to choose one.

    Args:
        predictor: Of the task subtype; the others as in `dice_of_bleeding`.

    Returns:
        As `dice_of_bleeding`; target is the subtype. Empty where no slice has a single subtype, as in a set without
        subtype labels.
    """
    types = prepared.slices[list(SUBTYPES)].to_numpy()[rows] == 1
    alone = types.sum(axis=1) == 1
    rows, kinds = rows[alone], np.array(SUBTYPES)[types[alone].argmax(axis=1)]
    curves = np.empty((len(rows), len(grid)))
    for name in dict.fromkeys(kinds):
        own = {name: of_class(method, predictor.task.classes.index(name))}
        curves[kinds == name] = dice_curves(predictor, prepared, own, rows[kinds == name], grid)[name]
    return dice_by_folds(prepared, rows, curves, grid).assign(method="hgi_sam", target=kinds)


def of_class(method: Method, number: int) -> Method:
    """The method with a fixed target class."""

    def fixed(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return method(model, images, number)

    return fixed


def dice_by_folds(prepared: PreparedDataset, rows: Rows, curves: Curves, grid: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Dice of every slice at the threshold that is best on the slices of the next fold, see `by_fold`.

    Args:
        prepared: The set, with folds.
        rows: [n] slices.
        curves: [n, thresholds] Dice of each.
        grid: [thresholds].

    Returns:
        patient, row, fold, threshold, dice, in the order of `rows`.

    Raises:
        InputError: If a fold has no slice to choose a threshold on.
    """
    table = prepared.slices[["patient", "fold"]].iloc[rows].assign(row=rows).reset_index(drop=True)
    threshold, dice = np.full((2, len(rows)), np.nan)
    for fold in table["fold"].unique():
        split = by_fold(prepared, fold).slices["split"].to_numpy()[rows]
        if not (split == "val").any():
            remedy = "Prepare more patients, or fewer data.folds."
            whose = f"the fold after fold {fold} of {prepared.path.name}"
            raise InputError(whose, "no such bleeding slice", "at least one", remedy)
        chosen, measured = dice_at_best_threshold(curves[split == "val"], curves[split == "test"], grid)
        threshold[split == "test"], dice[split == "test"] = chosen["threshold"], measured
    return table.assign(threshold=threshold, dice=dice)
