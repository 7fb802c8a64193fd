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
from hgisam_book.systems.encoder import resnet18
from hgisam_book.systems.exam_mil import STAGE_CHANNELS
from hgisam_book.systems.training import Maps, Rows, Slices, read_slices

STAGE = 2  # of the ResNet, whose cells are the instances: 8 pixels per side
ATTENTION_FEATURES = 64  # as in `exam_mil`


class CellNetwork(nn.Module):
    """Logit and attention of each cell of a slice, and the logit of the slice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        features = STAGE_CHANNELS[STAGE - 1]
        self.encoder = resnet18(channels, STAGE_CHANNELS, last_stage=STAGE)
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

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[Rows]:
        """Rows of batches of `train.batch_size`, as many slices with a bleed as without, shuffled, each once."""
        rows, generator = data.rows("train"), np.random.default_rng((profile.seed, epoch))
        bleeds = data.slices["any"].to_numpy()[rows] == 1
        yield from Batches(balanced_sample(rows, bleeds, generator), profile.train.batch_size)

    def read(self, example: Rows, data: PreparedDataset, profile: Profile, epoch: int) -> Slices:
        """Slices, each augmented on its own."""
        return read_slices(data, example, profile, epoch, alike=False)

    def loss(self, network: nn.Module, batch: Slices) -> Tensor:
        """Binary cross entropy of slices."""
        return F.binary_cross_entropy_with_logits(network(batch.images), batch.labels[:, LABELS.index("any")].float())

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """AUROC of the validation slices."""
        rows, size = data.rows("val"), profile.train.batch_size
        logits = [network(read_slices(data, batch, profile).images) for batch in Batches(rows, size)]
        return float(roc_auc_score(data.slices["any"].to_numpy()[rows] == 1, torch.cat(logits).cpu()))

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """Probability of each cell times its attention, relative to the slice's largest, upsampled."""
        slices = read_slices(data, rows, profile)
        with torch.no_grad():
            logits, attention = cast(CellNetwork, network).cells(slices.images)
            relative = attention / attention.amax(dim=(1, 2), keepdim=True)
        maps = upsample(logits.sigmoid() * relative, tuple(slices.brain.shape[1:])) * slices.brain
        return {self.name: maps.cpu().numpy()}
