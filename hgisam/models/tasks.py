"""Tasks: classes, targets, losses and metrics of binary, subtype and segmentation networks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from hgisam.data.labels import LABELS, SUBTYPES

if TYPE_CHECKING:
    from hgisam.config.profile import Train
    from hgisam.data.batches import Batch


class Task(Protocol):
    """A task, as training and validation use it.

    Attributes:
        classes: Names of the logits.
        bleeding: Index of the class "any bleeding", which maps explain.
        columns: Validation outputs per slice; the first is "score", the probability of bleeding.

    Example:
        >>> TASKS["binary"].score(torch.tensor([[0.0, 0.0], [0.0, 100.0]]))
        tensor([0.5000, 1.0000])
    """

    classes: tuple[str, ...]
    bleeding: int
    columns: tuple[str, ...]

    def target(self, batch: "Batch") -> Tensor:
        """Ground truth of a batch [B, …]."""

    def loss(self, logits: Tensor, target: Tensor, settings: "Train") -> Tensor:
        """Loss per slice [B]."""

    def score(self, logits: Tensor) -> Tensor:
        """Probability of bleeding per slice [B]."""

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        """Validation outputs `columns` per slice [B, M]."""

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        """Metrics of a split, from the labels and `columns` of its slices."""


class Binary:
    """Bleeding or not: two logits, cross entropy."""

    classes: tuple[str, ...] = ("no bleeding", "bleeding")
    bleeding: int = 1
    columns: tuple[str, ...] = ("score",)

    def target(self, batch: "Batch") -> Tensor:
        return batch.labels[:, LABELS.index("any")]  # class index [B]

    def loss(self, logits: Tensor, target: Tensor, settings: "Train") -> Tensor:
        """Cross entropy [B] of logits [B, 2], or focal loss if `focal_gamma` is positive.

        Source: Lin et al., Focal loss, ICCV 2017, without class weights, since mini-batches are balanced. The recipe
            "published" applies a softmax first, as the released code does.
        """
        logits = logits.float()
        if settings.softmax_before_loss:
            logits = logits.softmax(dim=1)
        plain = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing, reduction="none")
        right = logits.softmax(dim=1).gather(1, target[:, None])[:, 0]
        return plain * (1 - right) ** settings.focal_gamma

    def score(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=1)[:, self.bleeding]

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.score(logits)[:, None]  # [B, 1]

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        from sklearn.metrics import roc_auc_score  # takes most of a second

        return {"val_auroc": float(roc_auc_score(table["any"], table["score"]))}


class Subtype:
    """Any bleeding and the five subtypes: six independent logits, binary cross entropy."""

    classes: tuple[str, ...] = LABELS
    bleeding: int = LABELS.index("any")
    columns: tuple[str, ...] = ("score", *(f"score_{name}" for name in SUBTYPES))

    def target(self, batch: "Batch") -> Tensor:
        return batch.labels.float()  # 0 or 1 [B, 6]

    def loss(self, logits: Tensor, target: Tensor, settings: "Train") -> Tensor:
        """Binary cross entropy [B], mean over the six labels, or focal loss (see `Binary.loss`)."""
        logits = logits.float()
        smooth = target * (1 - settings.label_smoothing) + 0.5 * settings.label_smoothing
        plain = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        probability = logits.sigmoid()
        right = torch.where(target > 0.5, probability, 1 - probability)
        return (plain * (1 - right) ** settings.focal_gamma).mean(dim=1)

    def score(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()[:, self.bleeding]

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.float().sigmoid()  # probability of each label [B, 6]

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        """AUROC of any bleeding, and its mean over the subtypes that some slices have and others have not."""
        from sklearn.metrics import roc_auc_score

        types = [roc_auc_score(table[name], table[f"score_{name}"]) for name in SUBTYPES if table[name].nunique() == 2]
        auroc = float(roc_auc_score(table["any"], table["score"]))
        return {"val_auroc": auroc, "val_auroc_types": float(np.mean(types or [0.5]))}


class Segmentation:
    """Bleeding pixels: two logits per pixel, Dice loss and cross entropy."""

    classes: tuple[str, ...] = ("background", "bleeding")
    bleeding: int = 1
    columns: tuple[str, ...] = ("score", "dice")

    def target(self, batch: "Batch") -> Tensor:
        """Class index of each pixel [B, H, W]; a ValueError without masks."""
        if batch.mask is None:
            raise ValueError("a segmentation task needs batches with masks")
        return (batch.mask > 0).long()

    def loss(self, logits: Tensor, target: Tensor, settings: "Train") -> Tensor:
        """Mean cross entropy plus, on bleeding slices, the soft Dice loss of the bleeding class [B].

        On a slice without bleeding, any predicted probability would cost a whole Dice: the network would learn to
        predict all background.
        """
        from monai.losses.dice import DiceLoss  # MONAI takes seconds

        logits = logits.float()
        dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, reduction="none")
        entropy = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing, reduction="none")
        overlap: Tensor = dice(logits, target[:, None]).flatten(start_dim=1).mean(dim=1)
        return entropy.mean(dim=(1, 2)) + torch.where(target.flatten(start_dim=1).any(dim=1), overlap, 0.0)

    def score(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=1)[:, self.bleeding].amax(dim=(1, 2))  # most probable pixel

    def measure(self, logits: Tensor, target: Tensor) -> Tensor:
        """Score, and Dice of the predicted mask (argmax), NaN on slices without bleeding [B, 2]."""
        predicted = logits.argmax(dim=1) == self.bleeding
        sizes = predicted.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
        dice = 2 * (predicted & (target > 0)).sum(dim=(1, 2)) / sizes
        dice = dice.masked_fill(target.sum(dim=(1, 2)) == 0, torch.nan)
        return torch.stack([self.score(logits), dice], dim=1)

    def metrics(self, table: pd.DataFrame) -> dict[str, float]:
        return {"val_dice": float(table["dice"].mean())}  # of the bleeding slices


TASKS: Mapping[str, Task] = {"binary": Binary(), "subtype": Subtype(), "segmentation": Segmentation()}
