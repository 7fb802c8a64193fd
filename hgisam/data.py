"""From prepared slices to batches: reading, balanced sampling, and augmentation batched on the device."""

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

IN_MEMORY_BYTES = 2**30  # a set whose HU is smaller than this is read once


class SliceDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Slices of a prepared data set, addressed by whole batches of row numbers."""

    def __init__(self, prepared: PreparedDataset) -> None:
        self.hu: Any = prepared.hu[:] if prepared.hu.nbytes <= IN_MEMORY_BYTES else prepared.hu
        self.any = torch.from_numpy(prepared.slices["any"].to_numpy(copy=True))

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Row numbers [B] → (HU int16 [B, H, W], bleeding 0/1 int64 [B], row numbers [B])."""
        hu = self.hu[rows] if isinstance(self.hu, np.ndarray) else self.hu.oindex[rows]
        return torch.from_numpy(hu), self.any[rows], torch.from_numpy(rows)


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
    """A loader that yields (hu, any, rows) for `rows` in their order."""
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
    """Mean and standard deviation [C] of the windowed training slices, over at most 1,024 of them spread evenly."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 1024)).astype(int)]
    total, squares = torch.zeros(2, len(profile.windows), dtype=torch.float64)
    count = 0
    for hu, _, _ in batch_loader(dataset, sample, 64):
        channels = apply_windows(hu, profile.windows).double()
        total += channels.sum(dim=(0, 2, 3))
        squares += channels.square().sum(dim=(0, 2, 3))
        count += channels[:, 0].numel()
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(1e-6).sqrt().float()


def augment(hu: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    """Random pose, scanner and noise for each slice.

    Args:
        hu: [B, H, W] HU.
        settings: Ranges; each slice draws its own values.
        generator: On the device of `hu`.

    Returns:
        [B, H, W] float32 HU.
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
    moved = F.grid_sample(hu[:, None].float() - air, grid, align_corners=False)[:, 0] + air
    moved = _blur(moved, uniform(0, settings.blur_px))
    soft = moved.clamp(-150, 150)
    soft = soft * (1 + uniform(-settings.gain, settings.gain))[:, None, None]
    dense = (moved - moved.clamp(-150, 150)) * (1 + 2 * uniform(-settings.gain, settings.gain))[:, None, None]
    noise = torch.empty_like(moved).normal_(generator=generator)
    noise = _blur(noise, uniform(0, 1))
    noise = noise / noise.std(dim=(1, 2), keepdim=True) * uniform(0, settings.noise_hu)[:, None, None]
    level = uniform(-settings.level_hu, settings.level_hu)[:, None, None]
    return soft + dense + level + noise


def _blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Gaussian blur of [B, H, W], each image with its own sigma [B]."""
    offsets = torch.arange(-3, 4, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # [B, 7]
    batch = images.shape[0]
    padded = F.pad(images[None], (3, 3, 3, 3), mode="replicate")
    rows = F.conv2d(padded, kernel.view(batch, 1, 7, 1), groups=batch)
    return F.conv2d(rows, kernel.view(batch, 1, 1, 7), groups=batch)[0]
