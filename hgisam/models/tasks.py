"""What a network is asked: its classes, targets, loss and scores, one object a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from hgisam.config.profile import Train
from hgisam.data.batches import Batch
from hgisam.data.prepared import LABELS, SUBTYPES


class Task(Protocol):
    """What training and validation need to know of a task.

    Attributes:
        classes: Names of the logits.
        bleeding: Index of the class that stands for any bleed: what maps explain.
        columns: What is measured on each slice in validation; the first is "score", the probability of a bleed.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def bleeding(self) -> int: ...
    @property
    def columns(self) -> tuple[str, ...]: ...

    def target(self, batch: Batch) -> Tensor:
        """What the logits of a batch should say; [B, …]."""

    def loss(self, logits: Tensor, target: Tensor, settings: Train) -> Tensor:
        """Loss of each slice [B]."""

    def score(self, logits: Tensor) -> Tensor:
        """Probability of a bleed in each slice [B]."""

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        """`columns` of each slice [B, M]."""

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        """Figures of a whole validation, from its labels and `columns`."""


@dataclass(frozen=True)
class Binary:
    """Bleeding, yes or no: two logits, cross entropy."""

    classes: tuple[str, ...] = ("no bleeding", "bleeding")
    bleeding: int = 1
    columns: tuple[str, ...] = ("score",)

    def target(self, batch: Batch) -> Tensor:
        """Class index [B]."""
        return batch.labels[:, LABELS.index("any")]

    def loss(self, logits: Tensor, target: Tensor, settings: Train) -> Tensor:
        """Cross entropy [B] of logits [B, 2], focal if the profile says so.

        Source: focal as in Lin et al., Focal loss for dense object detection, ICCV 2017, without class weights, since
        batches are balanced. "published" applies a softmax first, as the released code does.
        """
        logits = logits.float()
        if settings.softmax_before_loss:
            logits = logits.softmax(dim=1)
        plain = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing, reduction="none")
        right = logits.softmax(dim=1).gather(1, target[:, None])[:, 0]
        return plain * (1 - right) ** settings.focal_gamma

    def score(self, logits: Tensor) -> Tensor:
        """Softmax [B]."""
        return logits.float().softmax(dim=1)[:, self.bleeding]

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        """The score [B, 1]."""
        return self.score(logits)[:, None]

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        """AUROC of slices."""
        return {"val_auroc": float(roc_auc_score(table["any"], table["score"]))}


@dataclass(frozen=True)
class Subtype:
    """Any bleed and the five types: six independent logits, binary cross entropy."""

    classes: tuple[str, ...] = LABELS
    bleeding: int = LABELS.index("any")
    columns: tuple[str, ...] = ("score", *(f"score_{name}" for name in SUBTYPES))

    def target(self, batch: Batch) -> Tensor:
        """0 or 1 for each label, float [B, 6]."""
        return batch.labels.float()

    def loss(self, logits: Tensor, target: Tensor, settings: Train) -> Tensor:
        """Binary cross entropy [B], mean over the six labels, focal if the profile says so (source: see `Binary`)."""
        logits = logits.float()
        smooth = target * (1 - settings.label_smoothing) + 0.5 * settings.label_smoothing
        plain = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        probability = logits.sigmoid()
        right = torch.where(target > 0.5, probability, 1 - probability)
        return (plain * (1 - right) ** settings.focal_gamma).mean(dim=1)

    def score(self, logits: Tensor) -> Tensor:
        """Sigmoid of "any" [B]."""
        return logits.float().sigmoid()[:, self.bleeding]

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        """Probability of each label [B, 6]."""
        return logits.float().sigmoid()

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        """AUROC of any bleed, and the mean over those types that some slices show and others don't."""
        types = [roc_auc_score(table[name], table[f"score_{name}"]) for name in SUBTYPES if table[name].nunique() == 2]
        mean = float(np.mean(types)) if types else 0.5
        return {"val_auroc": float(roc_auc_score(table["any"], table["score"])), "val_auroc_types": mean}


@dataclass(frozen=True)
class Segmentation:
    """Which pixels bleed: two logits a pixel, Dice and cross entropy."""

    classes: tuple[str, ...] = ("background", "bleeding")
    bleeding: int = 1
    columns: tuple[str, ...] = ("score", "dice")

    def target(self, batch: Batch) -> Tensor:
        """Class index of each pixel [B, H, W].

        Raises:
            ValueError: If the batch was read without masks.
        """
        if batch.mask is None:
            raise ValueError("a segmentation task needs batches with masks")
        return (batch.mask > 0).long()

    def loss(self, logits: Tensor, target: Tensor, settings: Train) -> Tensor:
        """Mean cross entropy plus, where a slice bleeds, the soft Dice loss of the bleeding class [B].

        Where nothing bleeds, any trace of a probability would cost a whole Dice, and a network learns to say nothing.

        Args:
            logits: [B, 2, H, W].
            target: [B, H, W].
            settings: Label smoothing is used.
        """
        from monai.losses.dice import DiceLoss  # MONAI takes seconds

        logits = logits.float()
        dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, reduction="none")
        entropy = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing, reduction="none")
        overlap: Tensor = dice(logits, target[:, None]).flatten(start_dim=1).mean(dim=1)
        return entropy.mean(dim=(1, 2)) + torch.where(target.flatten(start_dim=1).any(dim=1), overlap, 0.0)

    def score(self, logits: Tensor) -> Tensor:
        """Largest probability of a pixel in the slice [B]."""
        return logits.float().softmax(dim=1)[:, self.bleeding].amax(dim=(1, 2))

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        """The score, and Dice of what is likelier than not, NaN where nothing bleeds [B, 2]."""
        said = logits.argmax(dim=1) == self.bleeding
        both = 2 * (said & (target > 0)).sum(dim=(1, 2)) / (said.sum(dim=(1, 2)) + target.sum(dim=(1, 2)))
        dice = both.masked_fill(target.sum(dim=(1, 2)) == 0, torch.nan)
        return torch.stack([self.score(logits), dice], dim=1)

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        """Mean Dice over the slices that bleed."""
        return {"val_dice": float(table["dice"].mean())}


TASKS: Mapping[str, Task] = {"binary": Binary(), "subtype": Subtype(), "segmentation": Segmentation()}
