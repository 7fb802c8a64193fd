"""FocalSegNet: bleeds learned from balls around them by a U-Net of focal modulation, and a CRF.

The network learns the balls as they are; that masks are smaller and denser than balls comes from the dense CRF alone.

Source: Rasoulian et al., Weakly supervised segmentation of intracranial aneurysms using a novel 3D focal modulation
    UNet, arXiv 2308.03001, after its authors' code of March 2023. Loss and optimizer are theirs, and so is the network
    but for what `focal_unet` says. Ours are patches for thick slices, whose pixels are merged until a patch holds a
    head, and windows of CT in place of standardised patches. Augmentation and schedule are those of the profile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.metrics import dice
from hgisam_book.systems.dense_crf import dense_crf
from hgisam_book.systems.focal_unet import PAPER_WIDTHS, STRIDES, FocalUNet, Size
from hgisam_book.systems.training import Maps, Rows, Slices, read_slices, scans

PATCH_SLICES = 12
PIXEL_MM = 200 / 64  # about: with it a patch of 64 pixels holds a head, at 1 mm it would hold a piece of brain
OVERLAP = 0.25  # of the windows that cover a scan

Bools = npt.NDArray[np.bool_]
Batch = tuple[Tensor, Tensor]  # images [B, windows, slice, row, col] and masks [B, slice, row, col], 0 or 1


class Slab(NamedTuple):
    """Where a patch is cropped.

    Attributes:
        rows: Consecutive slices of a scan, as many as a patch has, or all.
        with_label: As in `patch_of`.
        number: Of the patch, counted over all epochs, for its augmentation and its place.
    """

    rows: Rows
    with_label: bool
    number: int


@dataclass(frozen=True)
class FocalSegNet:
    """FocalSegNet for the masks of a prepared set, which are balls in the ladder.

    Patches have `train.crop_px` of the network's pixels a side, and the stages have `segmenter.channels`.

    Attributes:
        name: Of its training in `study.trainings`.
        slices: Of a patch; a scan with fewer is padded.
        pixel_mm: Side of the network's pixels, about: slices are reduced to a whole number of them.
        crf_steps: Of mean-field inference.
    """

    name: str = "focal_segnet"
    slices: int = PATCH_SLICES
    pixel_mm: float = PIXEL_MM
    crf_steps: int = 1

    def network(self, profile: Profile) -> nn.Module:
        """`FocalUNet` with the windows of a profile."""
        return FocalUNet(len(profile.windows), 2, profile.segmenter.channels or PAPER_WIDTHS)

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[list[Slab]]:
        """Batches of random slabs, of which every other contains a label, the others none.

        Their number is that of the scans times `train.passes`.
        """
        size, settings, rng = self._size(profile), profile.train, np.random.default_rng((profile.seed, epoch))
        every, labels = scans(data, "train"), require_masks(data)
        slabs = [rows[first : first + size[0]] for rows in every for first in range(max(len(rows) - size[0], 0) + 1)]
        bleeds = {int(row) for rows in every for row in rows[(labels[rows] > 0).any(axis=(1, 2))]}
        labelled = [slab for slab in slabs if not bleeds.isdisjoint(slab.tolist())]
        others = [slab for slab in slabs if bleeds.isdisjoint(slab.tolist())]
        count = max(1, settings.passes * len(every) // settings.batch_size)
        for batch in range(count):
            chosen = []
            for number in range(batch * settings.batch_size, (batch + 1) * settings.batch_size):
                with_label = number % 2 == 0
                among = (labelled if with_label else others) or slabs
                rows = among[rng.integers(len(among))]
                chosen.append(Slab(rows, with_label, epoch * count * settings.batch_size + number))
            yield chosen

    def read(self, example: list[Slab], data: PreparedDataset, profile: Profile, epoch: int) -> Batch:
        """A random patch of each slab, augmented on its own."""
        patches = [
            patch_of(
                self._reduced(read_slices(data, slab.rows, profile, slab.number), data),
                self._size(profile), slab.with_label, np.random.default_rng((profile.seed, slab.number)),
            )
            for slab in example
        ]  # fmt: skip
        images, masks = zip(*patches, strict=True)
        return torch.stack(images), torch.stack(masks)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, the whole loss of the authors' code."""
        images, masks = batch
        return F.cross_entropy(network(images), masks.long())

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """Dice of probabilities of at least 0.5 and the labels of all validation scans together."""
        both = predicted = true = 0
        for rows in scans(data, "val"):
            found, truth = self._probability(network, data, rows, profile) >= 0.5, require_masks(data)[rows] > 0
            both, predicted, true = both + (found & truth).sum(), predicted + found.sum(), true + truth.sum()
        return float(dice(both, predicted, true))

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """`focal_segnet`: probability of the network; `focal_segnet_crf`: probability after the dense CRF."""
        found, slices = self._probability(network, data, rows, profile), data.slices.iloc[rows]
        where = slices["position_mm"].to_numpy(), float(slices["pixel_mm"].iloc[0])
        refined = dense_crf(found, data.hu[rows], data.brain[rows], *where, steps=self.crf_steps)
        return {self.name: found, f"{self.name}_crf": refined}

    @torch.no_grad()
    def _probability(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> Maps:
        """Probability of a bleed in a scan [n, row, col], from overlapping windows; 0 outside the brain."""
        scan, size = read_slices(data, rows, profile), self._size(profile)
        volume = self._reduced(scan, data).images.transpose(0, 1)[None]
        logits: Any = sliding_window_inference(
            volume, size, profile.train.batch_size, network, overlap=OVERLAP, mode="gaussian"
        )
        coarse = logits.float().softmax(dim=1)[0, 1, :, None]
        fine = F.interpolate(coarse, size=scan.brain.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        found: Maps = (fine * scan.brain).cpu().numpy()
        return found

    def _reduced(self, scan: Slices, data: PreparedDataset) -> Slices:
        """Slices with the network's pixels: means of images and HU, and majorities of masks."""
        side = max(1, round(scan.hu.shape[-1] * float(data.slices["pixel_mm"].iloc[0]) / self.pixel_mm))
        images, hu, brain = (F.adaptive_avg_pool2d(part, side) for part in (scan.images, scan.hu, scan.brain))
        mask = None if scan.mask is None else (F.adaptive_avg_pool2d(scan.mask, side) >= 0.5).float()
        return Slices(images, hu, (brain >= 0.5).float(), scan.labels, mask)

    def _size(self, profile: Profile) -> Size:
        """Size of a patch.

        Raises:
            InputError: If the strides do not divide it, or leave one voxel, which has no instance norm.
        """
        side, slices, merged = profile.train.crop_px, self.slices, np.prod(STRIDES, axis=0)
        if side is None or side % merged[1] or slices % merged[0] or (slices, side) == (merged[0], merged[1]):
            expected = f"multiples of {merged[0]} slices and {merged[1]} pixels, more than one of them"
            got = f"{slices} slices and train.crop_px {side}"
            raise InputError(f"patches of {self.name}", got, expected, "Change its train.crop_px.")
        return (slices, side, side)


def patch_of(scan: Slices, size: Size, with_label: bool, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crop a random patch of slices of a scan.

    Args:
        scan: Consecutive slices with masks.
        size: Of the patch; what the slices lack of it is padded.
        with_label: Whether the patch contains a label, if there is a choice; else it contains brain and no label.
        rng: Chooses.

    Returns:
        Images [windows, slice, row, col] and mask [slice, row, col].
    """
    if scan.mask is None:
        raise InputError("scan", "no mask", "a mask", "Use a prepared set with masks.")
    missing = [max(side - given, 0) for side, given in zip(size, scan.hu.shape, strict=True)]
    around = [part for lack in reversed(missing) for part in (lack // 2, lack - lack // 2)]  # as sliding windows are
    images, mask, brain = (F.pad(part, around) for part in (scan.images.transpose(0, 1), scan.mask, scan.brain))
    labelled = patches_with(mask.bool().cpu().numpy(), size)
    fits = labelled if with_label else ~labelled & patches_with(brain.bool().cpu().numpy(), size)
    corners = np.argwhere(fits if fits.any() else np.ones_like(fits))
    corner = corners[rng.integers(len(corners))]
    depth, row, col = (slice(first, first + side) for first, side in zip(corner.tolist(), size, strict=True))
    return images[:, depth, row, col], mask[depth, row, col]


def patches_with(mask: Bools, size: Size) -> Bools:
    """Whether a patch contains any of a mask [slice, row, col], for every patch, at the index of its first voxel."""
    for axis, side in enumerate(size):
        mask = np.asarray(np.lib.stride_tricks.sliding_window_view(mask, side, axis).any(axis=-1))
    return mask
