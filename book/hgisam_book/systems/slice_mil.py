"""Multiple-instance learning from slices, after Nemcek et al.: a slice is a bag, cells of its features are instances.

A ResNet-18 turns a slice into cells of 8 × 8 pixels. Each has a logit and an attention weight, and the weighted sum of
the logits is that of the slice. So a network that learns from labels of slices also scores places.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.batches import Batches, balanced_sample
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset
from hgisam.maps.combine import upsample
from hgisam.models.device import autocast, choose_device
from hgisam_book.systems.exam_mil import STAGE_CHANNELS, resnet18
from hgisam_book.systems.training import Maps, Rows, read_slices

STAGE = 2  # of the ResNet, whose cells are the instances: 8 pixels per side
ATTENTION_FEATURES = 64  # as in `exam_mil`


@dataclass(frozen=True)
class SliceBatch:
    """Slices that a training step reads when it comes to them.

    Attributes:
        data: Prepared set of the slices.
        rows: [B].
        profile: Of the training.
        epoch: Of the augmentation.
    """

    data: PreparedDataset
    rows: Rows
    profile: Profile
    epoch: int


class CellNetwork(nn.Module):
    """Logit and attention of each cell of a slice, and the logit of the slice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        features = STAGE_CHANNELS[STAGE - 1]
        self.encoder = resnet18(channels, last_stage=STAGE)
        self.content = nn.Sequential(nn.Conv2d(features, ATTENTION_FEATURES, 1), nn.Tanh())
        self.gate = nn.Sequential(nn.Conv2d(features, ATTENTION_FEATURES, 1), nn.Sigmoid())
        self.score = nn.Conv2d(ATTENTION_FEATURES, 1, 1)
        self.head = nn.Conv2d(features, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Slices [B, C, H, W] → logits [B]."""
        logits, attention = self.cells(images)
        return (attention * logits).sum(dim=(1, 2))

    def cells(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Slices [B, C, H, W] → logits of their cells [B, h, w], and attention [B, h, w], which sums to 1."""
        features: Tensor = self.encoder(images)[0]
        scores = self.score(self.content(features) * self.gate(features))[:, 0].float()
        return self.head(features)[:, 0].float(), scores.flatten(1).softmax(dim=1).view_as(scores)


@dataclass(frozen=True)
class SliceMil:
    """Attention-based multiple-instance learning from slices; its map is the probability of cells times attention.

    Source: after Nemcek, Vicar and Jakubicek, Weakly supervised deep learning-based intracranial hemorrhage
        localization, arXiv 2105.00781, of which we know the abstract: labels of slices, likelihood maps, attention.
        Gated attention as in Ilse et al., Attention-based deep multiple instance learning, ICML 2018. Our choices: the
        ResNet-18 of `exam_mil`, cut where a cell has 8 pixels, balanced slices, and the map. Batch norm, since the
        statistics of group norm tell every cell of a bleed anywhere in the slice.
    """

    name: str = "slice_mil"

    def network(self, profile: Profile) -> nn.Module:
        """A network with random weights."""
        return CellNetwork(len(profile.windows))

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[SliceBatch]:
        """Batches of `train.batch_size`, as many slices with a bleed as without, shuffled, each once."""
        rows, generator = data.rows("train"), np.random.default_rng((profile.seed, epoch))
        bleeds = data.slices["any"].to_numpy()[rows] == 1
        for batch in Batches(balanced_sample(rows, bleeds, generator), profile.train.batch_size):
            yield SliceBatch(data, batch, profile, epoch)

    def loss(self, network: nn.Module, example: SliceBatch) -> Tensor:
        """Binary cross entropy of slices."""
        slices = read_slices(example.data, example.rows, example.profile, example.epoch, alike=False)
        labels = slices.labels[:, LABELS.index("any")].float()
        return F.binary_cross_entropy_with_logits(network(slices.images), labels)

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """AUROC of the validation slices."""
        rows, device = data.rows("val"), choose_device(profile.compute.accelerator)
        with autocast(profile.compute.precision, device):
            logits = [
                network(read_slices(data, batch, profile).images) for batch in Batches(rows, profile.train.batch_size)
            ]
        return float(roc_auc_score(data.slices["any"].to_numpy()[rows] == 1, torch.cat(logits).cpu()))

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """Probability of each cell times its attention, relative to the slice's largest, upsampled."""
        slices = read_slices(data, rows, profile)
        with torch.no_grad():
            logits, attention = cast(CellNetwork, network).cells(slices.images)
            relative = attention / attention.amax(dim=(1, 2), keepdim=True)
        maps = upsample(logits.sigmoid() * relative, tuple(slices.brain.shape[1:])) * slices.brain
        return {self.name: maps.cpu().numpy()}
