"""What the network sees of a slice: soft tissue of the brain, windowed and standardised, on the device."""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hgisam.config.profile import Profile
from hgisam.config.recipes import RECIPES
from hgisam.data.batches import Batches, SliceDataset, batch_loader
from hgisam.data.windows import apply_windows

BRAIN_HU = 34.0  # between white and grey matter
DENSEST_BLOOD_HU = 100.0
BONE_EDGE_MM = 1.0  # how far the blurred edge of bone passes for blood
FILL_MM = 1.5  # standard deviation of the weights with which tissue is continued to the bone


def channel_statistics(dataset: SliceDataset, rows: npt.NDArray[np.int64], profile: Profile) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of the windowed soft tissue in at most 1,024 training slices, spread evenly."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 1024)).astype(int)]
    total, squares = torch.zeros(2, len(profile.windows), dtype=torch.float64)
    count = torch.tensor(0)
    for batch in batch_loader(dataset, Batches(sample, 64)):
        levelled, inside = soft_tissue(batch.hu, batch.brain, profile.pixel_mm)
        channels = apply_windows(levelled, profile.windows).double()
        total += (channels * inside[:, None]).sum(dim=(0, 2, 3))
        squares += (channels.square() * inside[:, None]).sum(dim=(0, 2, 3))
        count = count + inside.sum()
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(1e-6).sqrt().float()


def soft_tissue(hu: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """The brain at one level, without bone and calcium.

    Scanners and kernels differ by several HU in what they call brain, and blood differs from it by few more: the median
    of each slice's brain (of every second pixel along a side, for speed) is shifted to `BRAIN_HU`. What is denser than
    blood can be is not blood, and its blurred edge passes through the HU of blood: both are left out.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside.
        pixel_mm: Pixel pitch.

    Returns:
        Levelled HU [B, H, W] float32, and where soft tissue of the brain is [B, H, W] bool.
    """
    hu = hu.float()
    inside = brain > 0
    sample = hu[:, ::2, ::2].masked_fill(~inside[:, ::2, ::2], torch.nan)
    median = sample.flatten(start_dim=1).nanmedian(dim=1).values
    hu = hu + (BRAIN_HU - median).nan_to_num(0.0)[:, None, None]
    edge = max(1, round(BONE_EDGE_MM / pixel_mm))
    return hu, inside & ~_dilated(hu > DENSEST_BLOOD_HU, edge)


def _dilated(mask: Tensor, pixels: int) -> Tensor:
    """Where a mask [B, H, W] bool is true within so many pixels along rows and cols, a square; faster than pooling."""
    for axis in (1, 2):
        grown, length = mask.clone(), mask.shape[axis]
        for shift in range(1, min(pixels, length - 1) + 1):
            ahead, behind = mask.narrow(axis, shift, length - shift), mask.narrow(axis, 0, length - shift)
            grown.narrow(axis, 0, length - shift).logical_or_(ahead)
            grown.narrow(axis, shift, length - shift).logical_or_(behind)
        mask = grown
    return mask


def inpaint_beside_bone(levelled: Tensor, tissue: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
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
    near = gaussian_blur(tissue.float(), sigma_px, radius)
    beside = gaussian_blur(torch.where(tissue, levelled, 0.0), sigma_px, radius) / near.clamp_min(1e-3)
    fillable = (brain > 0) & (near > 0.02)
    return torch.where(tissue, levelled, beside), tissue | fillable


def to_images(hu: Tensor, brain: Tensor, profile: Profile, mean: Tensor, std: Tensor) -> Tensor:
    """What the classifier sees, as the recipe says.

    "corrected": the soft tissue of the brain, windowed and standardised by its own statistics. Beside 1,000 HU of bone,
    20 HU of blood are lost; standardised over soft tissue they are several standard deviations. All else is set to the
    mean, so that neither the decision nor the map can lean on skull, face or head rest. "published": the whole slice,
    windowed, each channel stretched to 0..1.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside.
        profile: Its windows, one a channel, the pixel pitch and the recipe.
        mean: [C] from `channel_statistics`.
        std: [C] likewise.

    Returns:
        [B, C, H, W] float32.
    """
    if RECIPES[profile.train.recipe].scale == "slice":
        channels = apply_windows(hu, profile.windows)
        least, most = channels.amin(dim=(2, 3), keepdim=True), channels.amax(dim=(2, 3), keepdim=True)
        return (channels - least) / (most - least).clamp_min(1e-6)
    shape = (1, -1, 1, 1)
    levelled, tissue = soft_tissue(hu, brain, profile.pixel_mm)
    filled, inside = inpaint_beside_bone(levelled, tissue, brain, profile.pixel_mm)
    channels = apply_windows(filled, profile.windows)
    return channels.sub_(mean.to(hu.device).view(shape)).div_(std.to(hu.device).view(shape)).mul_(inside[:, None])


def gaussian_blur(images: Tensor, sigma_px: Tensor, radius: int = 3) -> Tensor:
    """Gaussian blur of [B, H, W], each image with its own sigma [B], cut off at `radius` pixels."""
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # [B, 2 · radius + 1]
    batch, taps = kernel.shape
    padded = F.pad(images[None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.view(batch, 1, taps, 1), groups=batch)
    return F.conv2d(rows, kernel.view(batch, 1, 1, taps), groups=batch)[0]
