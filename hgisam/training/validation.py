"""Validation: loss and scores of held-out slices, the metrics of the split, and the operating points."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from hgisam.config.profile import Train
from hgisam.data.batches import Batch
from hgisam.data.prepared import LABELS, SUBTYPES, PreparedDataset
from hgisam.data.preprocess import Preprocessor
from hgisam.models.tasks import Task


@torch.no_grad()
def validate(
    model: nn.Module,
    batches: Iterable[Batch],
    task: Task,
    preprocess: Preprocessor,
    settings: Train,
    *,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Tensor, Tensor]:
    """Loss and task outputs of some slices.

    Args:
        model: On the device where it computes; put into evaluation mode.
        batches: The slices.
        task: What the model was trained for.
        preprocess: From HU to what the model sees.
        settings: Of the loss.
        autocast: The precision, as a context.

    Returns:
        Row numbers [n], and [n, 1 + M] float32: the loss, then `task.columns`; both on the CPU, in the order given.
    """
    model.eval()
    device = next(model.parameters()).device
    rows, outputs = [], []
    for batch in batches:
        moved = batch.to(device)
        target = task.target(moved)
        with autocast():
            logits = model(preprocess(moved.hu, moved.brain))
        loss = task.loss(logits, target, settings)
        rows.append(batch.rows)
        outputs.append(torch.cat([loss[:, None], task.measure(logits, target)], dim=1).float().cpu())
    return torch.cat(rows), torch.cat(outputs)


def validation_table(
    prepared: PreparedDataset, rows: npt.NDArray[np.int64], outputs: Tensor, task: Task
) -> tuple[pd.DataFrame, dict[str, float]]:
    """What `validate` found, as a table and as metrics of the split.

    Args:
        prepared: The set.
        rows: [n] row numbers.
        outputs: [n, 1 + M] from `validate`, in the order of `rows`.
        task: Names the columns.

    Returns:
        A table with row, patient, study, the labels and the task's columns; and the metrics, `val_loss` first.
    """
    table = prepared.slices.iloc[rows][["patient", "study", *LABELS]].reset_index(drop=True)
    table.insert(0, "row", rows)
    table[list(task.columns)] = outputs[:, 1:].numpy()
    return table, {"val_loss": float(outputs[:, 0].mean()), **task.metrics(table)}


def youden_threshold(bleeds: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """The score at which sensitivity + specificity is largest.

    Source: Youden, Index for rating diagnostic tests, Cancer 1950.
    """
    false_positive, true_positive, thresholds = roc_curve(bleeds, scores)
    return float(np.clip(thresholds[np.argmax(true_positive - false_positive)], 0, 1))


def label_thresholds(table: pd.DataFrame) -> dict[str, float]:
    """Youden's threshold of each label that has a score and both kinds of slices; "any" is always there."""
    scores = {"any": "score", **{name: f"score_{name}" for name in SUBTYPES}}
    return {
        label: youden_threshold(table[label].to_numpy() == 1, table[score].to_numpy())
        for label, score in scores.items()
        if score in table and table[label].nunique() == 2
    }
