"""The slices of a scan as a sequence: a ResNet per slice, an LSTM over the slices, and Grad-CAM of each slice's logit.

After Ramananda and Sundaresan (arXiv 2309.16627; Medical Physics 2025): a classification network trained on labels of
slices learns from contiguous slices, and its class activation maps locate the bleed. Depth and width of the ResNet,
direction and size of the LSTM, kind of map, loss and optimizer are our choice: the abstracts do not give them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.maps.combine import to_unit_range, upsample
from hgisam_book.systems.encoder import resnet18
from hgisam_book.systems.training import Maps, Rows, Slices, read_slices, scans

INPUT_PX = 96  # side of the slices that the encoder sees, by average pooling of larger ones
CHANNELS = (32, 64, 128, 256)  # half of ResNet-18's: four times faster
STRIDE = 8  # of the last feature map, by dilated convolutions: 12 × 12 cells of 17 mm, where the usual stride has 3 × 3
HIDDEN = 128  # units of the LSTM per direction
LENGTH = 12  # contiguous slices of a scan per epoch, a third of a scan, for time; maps see the whole scan
CERTAIN = 0.5  # probability of bleeding from which a slice gets a map


class SequenceNetwork(nn.Module):
    """ResNet-18 of half width, global average, bidirectional LSTM or none, and a logit per slice.

    It keeps ResNet's batch normalization, so that a step needs several scans. Group normalization does not depend on
    the batch, but a bleed changes the statistics of its whole slice: the network finds it anywhere, and so do the maps.

    Args:
        windows: Channels of a slice.
        with_lstm: Pass context from slice to slice; False: each slice on its own.
    """

    def __init__(self, windows: int, *, with_lstm: bool) -> None:
        super().__init__()
        self.encoder = resnet18(windows, CHANNELS, output_stride=STRIDE)
        self.lstm = nn.LSTM(CHANNELS[-1], HIDDEN, bidirectional=True) if with_lstm else None
        self.head = nn.Linear(2 * HIDDEN if with_lstm else CHANNELS[-1], 1)

    def features(self, images: Tensor) -> Tensor:
        """Last feature maps [n, channels, row, col] of slices [n, windows, row, col]."""
        maps: list[Tensor] = self.encoder(F.adaptive_avg_pool2d(images, min(INPUT_PX, images.shape[-1])))
        return maps[-1]

    def logits(self, pooled: Tensor, lengths: list[int]) -> Tensor:
        """Logits [n], in float32, of the averages of feature maps [n, channels] of scans of these lengths, in turn."""
        with torch.autocast(pooled.device.type, enabled=False):
            states = pooled.float()
            if self.lstm is not None:
                packed, _ = self.lstm(pack_sequence(list(torch.split(states, lengths)), enforce_sorted=False))
                states = torch.cat(unpack_sequence(packed))
            logits: Tensor = self.head(states)[:, 0]
        return logits

    def forward(self, images: Tensor, lengths: list[int]) -> Tensor:
        """Logits [n] of the slices [n, windows, row, col] of scans of these lengths, in turn."""
        return self.logits(self.features(images).mean(dim=(2, 3)), lengths)


class ScanParts(NamedTuple):
    """Scans of an optimizer step.

    Attributes:
        scans: Rows of a part of each scan.
        positive_weight: Weight of a bleeding slice in the loss; that of another slice is 1.
    """

    scans: list[Rows]
    positive_weight: float


class ScanBatch(NamedTuple):
    """Parts of scans, read, and the weight of a bleeding slice."""

    scans: list[Slices]
    positive_weight: float


@dataclass(frozen=True)
class SequenceCam:
    """Labels of slices → Grad-CAM of slices. `train.batch_size` counts scans.

    Attributes:
        with_lstm: False: "resnet_slices", the same encoder without context.
    """

    with_lstm: bool = True

    @property
    def name(self) -> str:
        """Of its training, and of its maps."""
        return "resnet_lstm" if self.with_lstm else "resnet_slices"

    def network(self, profile: Profile) -> SequenceNetwork:
        """A network with random weights."""
        return SequenceNetwork(len(profile.windows), with_lstm=self.with_lstm)

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[ScanParts]:
        """A random part of each training scan, `train.batch_size` per step; of bleeding scans, a part that bleeds."""
        rng = np.random.default_rng((profile.seed, epoch))
        bleeds = data.slices["any"].to_numpy() == 1
        found, count = scans(data, "train"), profile.train.batch_size
        parts = [_part(found[at], bleeds[found[at]], rng) for at in rng.permutation(len(found))]
        bleeding = bleeds[np.concatenate(parts)].mean()
        for first in range(0, len(parts), count):
            yield ScanParts(parts[first : first + count], float((1 - bleeding) / bleeding))

    def read(self, example: ScanParts, data: PreparedDataset, profile: Profile, epoch: int) -> ScanBatch:
        """Parts of scans, each augmented as one."""
        return ScanBatch([read_slices(data, rows, profile, epoch) for rows in example.scans], example.positive_weight)

    def loss(self, network: nn.Module, batch: ScanBatch) -> Tensor:
        """Binary cross-entropy per slice, both classes of an epoch with the same weight in total."""
        logits = network(torch.cat([scan.images for scan in batch.scans]), [len(scan.hu) for scan in batch.scans])
        bleeds = torch.cat([scan.labels[:, 0] for scan in batch.scans]).float()
        weight = logits.new_tensor(batch.positive_weight)
        return F.binary_cross_entropy_with_logits(logits, bleeds, pos_weight=weight)

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """AUROC of the validation slices."""
        found = scans(data, "val")
        logits = [network(read_slices(data, rows, profile).images, [len(rows)]) for rows in found]
        return float(roc_auc_score(data.slices["any"].iloc[np.concatenate(found)] == 1, torch.cat(logits).cpu()))

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """Grad-CAM of the slices with a probability of at least `CERTAIN`; 0 in others.

        Through the LSTM a slice beside a bleed would get a map too.
        """
        assert isinstance(network, SequenceNetwork)
        return {self.name: slice_cams(network, read_slices(data, rows, profile))}


def _part(rows: Rows, bleeds: npt.NDArray[np.bool_], rng: np.random.Generator) -> Rows:
    """At most `LENGTH` contiguous rows of a scan, around a random slice that bleeds, or any if none does."""
    length = min(LENGTH, len(rows))
    around = rng.choice(np.flatnonzero(bleeds == bleeds.max()))
    start = np.clip(around - rng.integers(length), 0, len(rows) - length)
    return rows[start : start + length]


def slice_cams(network: SequenceNetwork, slices: Slices, chosen: Tensor | None = None) -> Maps:
    """Grad-CAM of each slice's logit at the last feature map of that slice; the gradient flows through the LSTM.

    Args:
        network: In evaluation mode.
        slices: Of one whole scan.
        chosen: Slices to explain, bool [n]; None: those that the network calls bleeding.

    Returns:
        [n, row, col] in 0 to 1, rectified and min-max normalized per slice; 0 outside the brain and in other slices.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017. The gradient of a global average is the same in each cell, so that
    the weight of a channel is the gradient at its average, but for a factor that the normalization cancels.
    """
    with torch.no_grad():
        features = network.features(slices.images).float()
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # it has no gradients in evaluation mode
        pooled = features.mean(dim=(2, 3)).requires_grad_()
        logits = network.logits(pooled, [len(pooled)])
        chosen = logits.sigmoid() >= CERTAIN if chosen is None else chosen
        weights = torch.zeros_like(features[:, :, 0, 0])
        for at in torch.nonzero(chosen)[:, 0].tolist():
            weights[at] = torch.autograd.grad(logits[at], pooled, retain_graph=True)[0][at]
    cams = torch.einsum("nc,nchw->nhw", weights, features).relu()
    found: Maps = to_unit_range(upsample(cams, tuple(slices.brain.shape[1:])), slices.brain).cpu().numpy()
    return found
