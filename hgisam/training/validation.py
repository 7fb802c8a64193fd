"""Validation: every slice once, whichever process measures it, and what follows for the whole split."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import roc_curve
from torch import Tensor

from hgisam.data.prepared import LABELS, SUBTYPES
from hgisam.training.setup import TrainingSetup


@torch.no_grad()
def validate(session: TrainingSetup) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measures the validation slices.

    Returns:
        A table with row, patient, study, the labels and the task's columns, in the order of the set; and the figures of
        all of them, `val_loss` first.
    """
    session.network.eval()
    rows, measured = [], []
    for batch in session.loader(session.validation_batches()):
        moved = session.fabric.to_device(batch)
        target = session.task.target(moved)
        with session.fabric.autocast():
            logits = session.network(session.images(moved.hu, moved.brain))
        loss = session.task.loss(logits, target, session.profile.train)
        rows.append(batch.rows)
        measured.append(torch.cat([loss[:, None], session.task.measure(logits, target)], dim=1).float().cpu())
    everything = _gathered(session, torch.cat(rows), torch.cat(measured))
    table = session.prepared.slices.iloc[session.val_rows][["patient", "study", *LABELS]].reset_index(drop=True)
    table.insert(0, "row", session.val_rows)
    table[list(session.task.columns)] = everything[:, 1:].numpy()
    return table, {"val_loss": float(everything[:, 0].mean()), **session.task.metrics(table)}


def _gathered(session: TrainingSetup, rows: Tensor, values: Tensor) -> Tensor:
    """ScoreMaps of all validation rows [n, M] in their order, from all processes."""
    fabric = session.fabric
    shares = [-(-len(batch) // fabric.world_size) for batch in session.validation_batches().batches]
    padded = torch.full((sum(shares), 1 + values.shape[1]), -1.0, dtype=torch.float64)  # the first process has most
    padded[: len(rows)] = torch.cat([rows[:, None].double(), values.double()], dim=1)
    gathered: Any = fabric.all_gather(padded.to(fabric.device))
    joined = gathered.reshape(-1, padded.shape[1]).cpu()
    joined = joined[joined[:, 0] >= 0]
    ordered: Tensor = joined[joined[:, 0].argsort()][:, 1:].float()
    return ordered


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
