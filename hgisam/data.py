"""From prepared slices to batches: reading, balanced sampling, and augmentation batched on the device."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hgisam.prepared import PreparedDataset
from hgisam.profile import Augment, Profile
from hgisam.windows import apply_windows

IN_MEMORY_BYTES = 2**31  # a set whose HU is smaller than this is read once
BRAIN_HU = 34.0  # between white and grey matter
DENSEST_BLOOD_HU = 100.0
BONE_EDGE_MM = 1.0  # how far the blurred edge of bone passes for blood
FILL_MM = 1.5  # standard deviation of the weights with which tissue is continued to the bone


class SliceDataset(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Slices of a prepared data set, addressed by whole batches of row numbers."""

    def __init__(self, prepared: PreparedDataset) -> None:
        small = prepared.hu.nbytes <= IN_MEMORY_BYTES
        self.hu: Any = prepared.hu[:] if small else prepared.hu
        self.brain: Any = prepared.brain[:] if small else prepared.brain
        self.any = torch.from_numpy(prepared.slices["any"].to_numpy(copy=True))

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Row numbers [B] → (HU int16 [B, H, W], brain uint8 [B, H, W], bleeding 0/1 int64 [B], row numbers [B])."""
        hu, brain = (a[rows] if isinstance(a, np.ndarray) else a.oindex[rows] for a in (self.hu, self.brain))
        return torch.from_numpy(hu), torch.from_numpy(brain), self.any[rows], torch.from_numpy(rows)


class Batches:
    """Row numbers, batch by batch, in the order given."""

    def __init__(self, rows: npt.NDArray[np.int64], batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        for start in range(0, len(self.rows), self.batch_size):
            yield self.rows[start : start + self.batch_size]

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)


def batch_loader(dataset: SliceDataset, rows: npt.NDArray[np.int64], batch_size: int) -> DataLoader[Any]:
    """A loader that yields (hu, brain, any, rows) for `rows` in their order."""
    return DataLoader(dataset, sampler=Batches(rows, batch_size), batch_size=None)


def balanced_rows(
    rows: npt.NDArray[np.int64], bleeds: npt.NDArray[np.bool_], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """One epoch: as many slices without bleeding as with, each at most once, shuffled.

    Args:
        rows: Row numbers of the training split [n].
        bleeds: Whether each of them bleeds [n].
        generator: Where the randomness comes from.

    Source: the released code draws 2 × positives without replacement.
    """
    positive, negative = rows[bleeds], rows[~bleeds]
    count = min(len(positive), len(negative))
    chosen = [generator.choice(group, count, replace=False) for group in (positive, negative)]
    return generator.permutation(np.concatenate(chosen))


def channel_statistics(dataset: SliceDataset, rows: npt.NDArray[np.int64], profile: Profile) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of the windowed soft tissue in at most 1,024 training slices, spread evenly."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 1024)).astype(int)]
    total, squares = torch.zeros(2, len(profile.windows), dtype=torch.float64)
    count = torch.tensor(0)
    for hu, brain, _, _ in batch_loader(dataset, sample, 64):
        levelled, inside = soft_tissue(hu, brain, profile.pixel_mm)
        channels = apply_windows(levelled, profile.windows).double()
        total += (channels * inside[:, None]).sum(dim=(0, 2, 3))
        squares += (channels.square() * inside[:, None]).sum(dim=(0, 2, 3))
        count = count + inside.sum()
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(1e-6).sqrt().float()


def soft_tissue(hu: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """The brain at one level, without bone and calcium.

    Scanners and kernels differ by several HU in what they call brain, and blood differs from it by few more: the median
    of each slice's brain is shifted to `BRAIN_HU`. What is denser than blood can be is not blood, and its blurred edge
    passes through the HU of blood: both are left out.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside.
        pixel_mm: Pixel pitch.

    Returns:
        Levelled HU [B, H, W] float32, and where soft tissue of the brain is [B, H, W] bool.
    """
    hu = hu.float()
    inside = brain > 0
    median = hu.masked_fill(~inside, torch.nan).flatten(start_dim=1).nanmedian(dim=1).values
    hu = hu + (BRAIN_HU - median).nan_to_num(0.0)[:, None, None]
    edge = max(1, round(BONE_EDGE_MM / pixel_mm))
    dense = F.max_pool2d((hu > DENSEST_BLOOD_HU).float()[:, None], 2 * edge + 1, stride=1, padding=edge)[:, 0]
    return hu, inside & (dense == 0)


def continue_to_bone(levelled: Tensor, tissue: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """Fills what bone outshines with the tissue beside it.

    A subdural or epidural bleed lies on the bone: without this, nearly half of it on a coarse grid would be left out
    with the bone's edge.

    Args:
        levelled: [B, H, W] HU from `soft_tissue`.
        tissue: [B, H, W] bool, likewise.
        brain: [B, H, W], 0 outside; nothing is filled there.
        pixel_mm: Pixel pitch.

    Returns:
        HU [B, H, W] float32, and where there is any, seen or filled [B, H, W] bool. A filled pixel is the mean of the
        tissue around it, weighted by a Gaussian of `FILL_MM`.
    """
    sigma_px = torch.full(levelled.shape[:1], FILL_MM / pixel_mm, device=levelled.device)
    radius = math.ceil(3 * FILL_MM / pixel_mm)
    near = _blur(tissue.float(), sigma_px, radius)
    beside = _blur(torch.where(tissue, levelled, 0.0), sigma_px, radius) / near.clamp_min(1e-3)
    fillable = (brain > 0) & (near > 0.02)
    return torch.where(tissue, levelled, beside), tissue | fillable


def to_images(hu: Tensor, brain: Tensor, profile: Profile, mean: Tensor, std: Tensor) -> Tensor:
    """What the classifier sees: the soft tissue of the brain, windowed and standardised by its own statistics.

    Beside 1,000 HU of bone, 20 HU of blood are lost; standardised over soft tissue they are several standard
    deviations. All else is set to the mean, so that neither the decision nor the map can lean on skull, face or head
    rest.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside.
        profile: Its windows, one a channel, and the pixel pitch.
        mean: [C] from `channel_statistics`.
        std: [C] likewise.

    Returns:
        [B, C, H, W] float32.
    """
    shape = (1, -1, 1, 1)
    levelled, tissue = soft_tissue(hu, brain, profile.pixel_mm)
    filled, inside = continue_to_bone(levelled, tissue, brain, profile.pixel_mm)
    channels = (apply_windows(filled, profile.windows) - mean.to(hu.device).view(shape)) / std.to(hu.device).view(shape)
    return channels * inside[:, None]


def augment(hu: Tensor, brain: Tensor, settings: Augment, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pose, scanner and noise for each slice, and cells of it hidden.

    What is hidden counts as outside the brain, so that a network that leans on the most conspicuous spot of a bleed has
    to know the rest of it too.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside; moves with the slice.
        settings: Ranges; each slice draws its own values.
        generator: On the device of `hu`.

    Returns:
        HU and brain, both [B, H, W] float32.

    Source: hidden cells as in Singh and Lee, Hide-and-Seek, ICCV 2017.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(len(hu), device=hu.device).uniform_(low, high, generator=generator)

    angle = torch.deg2rad(uniform(-settings.rotate_deg, settings.rotate_deg))
    scale = 1 + uniform(-settings.scale, settings.scale)
    flip = torch.where(uniform(0, 1) < settings.flip, -1.0, 1.0)
    shift = torch.stack([uniform(-2 * settings.shift, 2 * settings.shift) for _ in range(2)], dim=1)
    rotation = torch.stack([angle.cos() * flip, -angle.sin(), angle.sin() * flip, angle.cos()], dim=1)
    affine = torch.cat([(rotation * scale[:, None]).view(-1, 2, 2), shift[:, :, None]], dim=2)
    grid = F.affine_grid(affine, [len(hu), 1, *hu.shape[1:]], align_corners=False)
    air = -1000.0  # what lies outside the field
    both = torch.stack([hu.float() - air, brain.float()], dim=1)
    moved, inside = F.grid_sample(both, grid, align_corners=False).unbind(dim=1)
    moved = moved + air
    moved = _blur(moved, uniform(0, settings.blur_px))
    soft = moved.clamp(-150, 150)
    soft = soft * (1 + uniform(-settings.gain, settings.gain))[:, None, None]
    dense = (moved - moved.clamp(-150, 150)) * (1 + 2 * uniform(-settings.gain, settings.gain))[:, None, None]
    noise = torch.empty_like(moved).normal_(generator=generator)
    noise = _blur(noise, uniform(0, 1))
    noise = noise / noise.std(dim=(1, 2), keepdim=True) * uniform(0, settings.noise_hu)[:, None, None]
    cells = torch.empty(len(hu), 1, settings.hide_cells, settings.hide_cells, device=hu.device)
    shown = (cells.uniform_(0, 1, generator=generator) >= settings.hide).float()
    shown = F.interpolate(shown, hu.shape[1:], mode="nearest")[:, 0]
    return soft + dense + noise, (inside > 0.5) * shown


def _blur(images: Tensor, sigma_px: Tensor, radius: int = 3) -> Tensor:
    """Gaussian blur of [B, H, W], each image with its own sigma [B], cut off at `radius` pixels."""
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # [B, 2 · radius + 1]
    batch, taps = kernel.shape
    padded = F.pad(images[None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.view(batch, 1, taps, 1), groups=batch)
    return F.conv2d(rows, kernel.view(batch, 1, 1, taps), groups=batch)[0]
