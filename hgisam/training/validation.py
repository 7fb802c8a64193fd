"""Validation: loss and scores of held-out slices, metrics of the split, operating points."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from hgisam.config.profile import Train
from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.data.preprocess import Preprocessor
from hgisam.models.tasks import Task

if TYPE_CHECKING:
    from hgisam.data.batches import Batch
    from hgisam.data.prepared import PreparedDataset

Rows = npt.NDArray[np.int64]
TableAndMetrics = tuple[pd.DataFrame, dict[str, float]]


@torch.no_grad()
def validate(
    model: nn.Module, batches: Iterable["Batch"], task: Task, preprocess: Preprocessor, settings: Train,
    *, autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the loss and the task's outputs of slices, on the device of the model.

    Args:
        model, task, preprocess: Those of a checkpoint; the model is set to evaluation mode.
        settings: Settings of the loss.
        autocast: Context of the precision.

    Returns:
        Row numbers [n], and [n, 1 + M] float32: the loss, then `task.columns`; both on the CPU, in the order given.

    Example:
        >>> from hgisam.data import Batch
        >>> from hgisam.models import load_pretrained
        >>> c, hu = load_pretrained("phantom-binary"), torch.full((2, 192, 192), 35)
        >>> batch = Batch(torch.tensor([3, 5]), hu, torch.ones_like(hu), torch.zeros(2, 6, dtype=torch.int64))
        >>> rows, outputs = validate(c.model, [batch], c.task, c.preprocess, c.profile.train)
        >>> rows.tolist(), outputs.shape
        ([3, 5], torch.Size([2, 2]))
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


def validation_table(prepared: "PreparedDataset", rows: Rows, outputs: Tensor, task: Task) -> TableAndMetrics:
    """Table (row, patient, study, labels, columns of the task) and metrics of the outputs [n, 1 + M] of `validate`.

    The outputs are in the order of `rows` [n]; `val_loss` is the first metric.
    """
    table = prepared.slices.iloc[rows][["patient", "study", *LABELS]].reset_index(drop=True)
    table.insert(0, "row", rows)
    table[list(task.columns)] = outputs[:, 1:].numpy()
    return table, {"val_loss": float(outputs[:, 0].mean()), **task.metrics(table)}


def youden_threshold(bleeds: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """Score with the largest sensitivity + specificity. Source: Youden, Index for rating diagnostic tests, 1950."""
    false_positive, true_positive, thresholds = roc_curve(bleeds, scores)
    return float(np.clip(thresholds[np.argmax(true_positive - false_positive)], 0, 1))


def label_thresholds(table: pd.DataFrame) -> dict[str, float]:
    """Youden's threshold of each label with scores and with slices of both classes; "any" is always one of them."""
    scores = {"any": "score", **{name: f"score_{name}" for name in SUBTYPES}}
    return {
        label: youden_threshold(table[label].to_numpy() == 1, table[score].to_numpy())
        for label, score in scores.items()
        if score in table and table[label].nunique() == 2
    }
