"""Multiple-instance learning from exams, after Teneggi et al.: one label per exam, attention over its slices.

A ResNet-18 turns each slice of an exam into features, attention weights the slices, and their weighted sum decides
whether the exam shows a bleed. Attention is sparse: most slices have none, and an empty map.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.batches import balanced_sample
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.maps.combine import upsample
from hgisam_book.systems.encoder import resnet18
from hgisam_book.systems.training import Maps, Rows, Slices, read_slices, scans

STAGE_CHANNELS = (16, 32, 64, 128)  # a quarter of those of a ResNet-18: our choice, for two cores
POOLING = 2  # prepared pixels per side of an input pixel
OUTPUT_STRIDE = 8  # input pixels per cell of the last feature map
FEATURES, FEATURE_DROPOUT = 128, 0.5
ATTENTION_FEATURES, ATTENTION_DROPOUT = 64, 0.25


@dataclass(frozen=True)
class Explanation:
    """An exam as the network sees it.

    Attributes:
        probability: That the exam shows a bleed.
        attention: [n], one per slice; sums to 1, and most are 0.
        grad_cam: [n, row, col] in 0 to 1 over the exam, 0 outside the brain.
    """

    probability: float
    attention: npt.NDArray[np.float32]
    grad_cam: Maps


class ExamNetwork(nn.Module):
    """Features of each slice, attention over the slices, and the logit of the exam."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = resnet18(channels, STAGE_CHANNELS, output_stride=OUTPUT_STRIDE)
        self.reduce = nn.Sequential(nn.Linear(STAGE_CHANNELS[-1], FEATURES), nn.Dropout(FEATURE_DROPOUT))
        self.score = nn.Sequential(
            nn.Linear(FEATURES, ATTENTION_FEATURES),
            nn.Tanh(),
            nn.Dropout(ATTENTION_DROPOUT),
            nn.Linear(ATTENTION_FEATURES, 1),
        )
        self.head = nn.Linear(FEATURES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Slices [n, C, H, W] of an exam → logit []."""
        logit, _ = self.pool(self.cells(images))
        return logit

    def cells(self, images: Tensor) -> Tensor:
        """Slices [n, C, H, W] → the last feature map [n, K, h, w]."""
        features: list[Tensor] = self.encoder(F.avg_pool2d(images, POOLING))
        return features[-1]

    def pool(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps [n, K, h, w] → logit of the exam [], attention [n]."""
        features = self.reduce(cells.amax(dim=(2, 3)))
        attention = sparsemax(self.score(features)[:, 0].float())
        logit: Tensor = self.head(attention @ features.float())[0]
        return logit.float(), attention


@dataclass(frozen=True)
class ExamMil:
    """Attention-based multiple-instance learning on exams; its maps are Grad-CAM times the attention of the slice.

    Source: after Teneggi et al., Examination-level supervision for deep learning-based intracranial hemorrhage
        detection on head CT, Radiology: Artificial Intelligence 2024, and their code: ResNet-18, 128 features with
        dropout, attention of tanh, sparsemax, one exam per step. Theirs is pretrained, partly frozen, and sees one
        window at 512 pixels. Our choices: random weights, a quarter of the channels, all windows, half the prepared
        pixels, AdamW, max pooling of the cells, since a mean dilutes a small bleed, and dilation for the last two
        strides, since a map of 3 × 3 cells finds no bleed. Batch norm sees one exam, all its slices; group norm learned
        slower. Their focal loss weighs both classes alike; our exams are balanced, and have binary cross entropy.
    """

    name: str = "exam_mil"

    def network(self, profile: Profile) -> nn.Module:
        """A network with random weights."""
        return ExamNetwork(len(profile.windows))

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[Rows]:
        """Rows of as many exams with a bleed as without, shuffled, each once."""
        exams = scans(data, "train")
        generator = np.random.default_rng((profile.seed, epoch))
        for index in balanced_sample(np.arange(len(exams)), exam_labels(data, exams, "train"), generator):
            yield exams[index]

    def read(self, example: Rows, data: PreparedDataset, profile: Profile, epoch: int) -> Slices:
        """The slices of an exam, augmented alike."""
        return read_slices(data, example, profile, epoch)

    def loss(self, network: nn.Module, batch: Slices) -> Tensor:
        """Binary cross entropy of an exam."""
        label = batch.labels[:, LABELS.index("any")].max().float()
        return F.binary_cross_entropy_with_logits(network(batch.images), label)

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """AUROC of the validation exams."""
        exams = scans(data, "val")
        logits = [float(network(read_slices(data, rows, profile).images)) for rows in exams]
        return float(roc_auc_score(exam_labels(data, exams, "val"), logits))

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """Grad-CAM of the exam times the attention of the slices, in 0 to 1 over the exam."""
        found = explain_exam(cast(ExamNetwork, network), data, rows, profile)
        return {self.name: to_unit_peak(found.grad_cam * found.attention[:, None, None])}


def explain_exam(network: ExamNetwork, data: PreparedDataset, rows: Rows, profile: Profile) -> Explanation:
    """Probability, attention and Grad-CAM of an exam.

    Args:
        network: Of `ExamMil`, in evaluation mode; left as it was.
        data: Has the exam.
        rows: [n], ascending.
        profile: Of the training.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, of the exam's logit at the last feature map.
    """
    slices = read_slices(data, rows, profile)
    with torch.enable_grad(), torch.autocast(slices.images.device.type, enabled=False):
        cells = network.cells(slices.images).detach().requires_grad_()
        logit, attention = network.pool(cells)
        (gradient,) = torch.autograd.grad(logit, cells)
    with torch.no_grad():
        weighted = (gradient.mean(dim=(2, 3), keepdim=True) * cells).sum(dim=1).relu()
        maps = upsample(weighted, tuple(slices.brain.shape[1:])) * slices.brain
    return Explanation(
        float(logit.detach().sigmoid()), attention.detach().cpu().numpy(), to_unit_peak(maps.cpu().numpy())
    )


def exam_labels(data: PreparedDataset, exams: list[Rows], split: str) -> npt.NDArray[np.bool_]:
    """Labels of the exams of a split, [n]: True if any slice shows a bleed.

    Raises:
        InputError: If all are alike.
    """
    bleeds = data.slices["any"].to_numpy() == 1
    labels = np.array([bleeds[rows].any() for rows in exams])
    if len(np.unique(labels)) < 2:
        got = "only exams with a bleed" if labels.any() else "no exam with a bleed"
        remedy = "Prepare more patients, or another data.validation_fraction."
        raise InputError(f"split {split} of {data.path.name}", got, "exams with and without a bleed", remedy)
    return labels


def sparsemax(scores: Tensor) -> Tensor:
    """The nearest point of the probability simplex to scores [n]: a softmax with exact zeros.

    Example:
        >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0.7500, 0.2500, 0.0000])

    Source: Martins and Astudillo, From softmax to sparsemax, ICML 2016, algorithm 1.
    """
    descending = scores.sort(descending=True).values
    excess = descending.cumsum(dim=0) - 1
    counts = torch.arange(1, len(scores) + 1, device=scores.device)
    support = int((counts * descending > excess).sum())
    return (scores - excess[support - 1] / support).clamp(min=0)


def to_unit_peak(maps: Maps) -> Maps:
    """Maps divided by their largest value; unchanged if that is 0."""
    peak = maps.max()
    return maps / peak if peak > 0 else maps
