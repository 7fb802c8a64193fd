"""Random changes to training slices: drawn row by row, apart from their application, and applied a batch at a time.

What happens to a slice depends on the seed, the epoch and its row number alone. So an epoch can be replayed from any
step, and several processes that share a batch change its slices as one process would.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hgisam.config.profile import Augment
from hgisam.data.preprocess import gaussian_blur

AIR_HU = -1000.0  # what lies outside the field
SOFT_HU = 150.0  # soft tissue lies between minus this and this; what is denser is stretched by itself


@dataclass(frozen=True)
class Augmentation:
    """What happens to each slice of a batch, on the CPU.

    Attributes:
        affine: Where each place of the new slice comes from, as `torch.nn.functional.affine_grid` takes it. [B, 2, 3]
        blur_px: Standard deviation of the blur [B].
        soft_gain, dense_gain: Factors on soft tissue and on what is denser [B].
        noise_hu: Standard deviation of the noise [B].
        grain_px: Standard deviation of the noise's own blur [B].
        noise_seed: Where the noise comes from [B].
        shown: 1 where a cell is shown, 0 where it is hidden [B, cells, cells].
        gamma: Power of soft tissue [B].
        zoom: Share of the pixels along a side that are left [B].
    """

    affine: Tensor
    blur_px: Tensor
    soft_gain: Tensor
    dense_gain: Tensor
    noise_hu: Tensor
    grain_px: Tensor
    noise_seed: tuple[int, ...]
    shown: Tensor
    gamma: Tensor
    zoom: Tensor


def sample_augmentation(rows: npt.NDArray[np.int64], settings: Augment, seed: int, epoch: int) -> Augmentation:
    """Draws pose, scanner and noise for each slice, and which cells of it are hidden.

    Args:
        rows: Row numbers of the slices [B].
        settings: Ranges.
        seed: Of the run.
        epoch: Counted from 0.
    """
    drawn = [_draw(np.random.default_rng((seed, epoch, int(row))), settings) for row in rows]
    affine, scanner, noise_seed, shown, quality = zip(*drawn, strict=True)
    blur, soft, dense, noise, grain = torch.tensor(np.array(scanner), dtype=torch.float32).unbind(dim=1)
    gamma, zoom = torch.tensor(np.array(quality), dtype=torch.float32).unbind(dim=1)
    stacked = (torch.tensor(np.array(values), dtype=torch.float32) for values in (affine, shown))
    return Augmentation(next(stacked), blur, soft, dense, noise, grain, noise_seed, next(stacked), gamma, zoom)


def _draw(
    rng: np.random.Generator, settings: Augment
) -> tuple[npt.NDArray[np.float64], list[float], int, npt.NDArray[np.bool_], list[float]]:
    """One slice: its affine [2, 3], the five numbers of its scanner, the seed of its noise, cells, power and zoom."""
    angle = np.deg2rad(rng.uniform(-settings.rotate_deg, settings.rotate_deg))
    scale = 1 + rng.uniform(-settings.scale, settings.scale)
    flip = -1.0 if rng.random() < settings.flip else 1.0
    shift = rng.uniform(-2 * settings.shift, 2 * settings.shift, 2)
    rotation = [[np.cos(angle) * flip, -np.sin(angle)], [np.sin(angle) * flip, np.cos(angle)]]
    affine = np.column_stack([np.array(rotation) * scale, shift])
    scanner = [
        rng.uniform(0, settings.blur_px),
        1 + rng.uniform(-settings.gain, settings.gain),
        1 + 2 * rng.uniform(-settings.gain, settings.gain),
        rng.uniform(0, settings.noise_hu),
        rng.uniform(0, 1),
    ]
    noise_seed = int(rng.integers(2**63 - 1))
    shown = rng.random((settings.hide_cells, settings.hide_cells)) >= settings.hide
    power = np.exp(rng.uniform(-settings.gamma, settings.gamma))
    zoom = 1 - max(
        0.0, rng.uniform(-settings.low_resolution, settings.low_resolution)
    )  # half stay as sharp as they are
    return affine, scanner, noise_seed, shown, [power, zoom]


def augment(hu: Tensor, brain: Tensor, changes: Augmentation, mask: Tensor | None = None) -> tuple[Tensor, ...]:
    """Applies the changes, on the device of `hu`.

    What is hidden counts as outside the brain, so that a network that leans on the most conspicuous spot of a bleed has
    to know the rest of it too.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside; moves with the slice.
        changes: From `sample_augmentation`, for the same B slices.
        mask: [B, H, W] of a bleed, moves with the slice, or None.

    Returns:
        HU and brain, both [B, H, W] float32, and the mask likewise, 0 or 1, if there is one.

    Source: hidden cells as in Singh and Lee, Hide-and-Seek, ICCV 2017; all else as in Isensee et al., nnU-Net, Nature
        Methods 2021, but drawn for every slice, and without two of its changes: brightness, since every slice is
        brought to the same level before a network sees it, and mirroring front to back, since heads have a front.
    """
    device, size = hu.device, hu.shape[1:]
    grid = _sources(changes.affine.to(device), *size)
    layers = [hu.float() - AIR_HU, (brain > 0).float(), *([(mask > 0).float()] if mask is not None else [])]
    moved, inside, *outline = F.grid_sample(torch.stack(layers, dim=1), grid, align_corners=False).unbind(dim=1)
    moved = gaussian_blur(moved + AIR_HU, changes.blur_px.to(device))
    soft = moved.clamp(-SOFT_HU, SOFT_HU)
    dense = (moved - soft) * _each(changes.dense_gain, hu)
    changed = _to_power(soft, changes.gamma) * _each(changes.soft_gain, hu) + dense + _noise(changes, hu)
    shown = F.interpolate(changes.shown[:, None].to(device), size, mode="nearest")[:, 0]
    return _coarser(changed, changes.zoom), (inside > 0.5) * shown, *((o > 0.5).float() for o in outline)


def _sources(affine: Tensor, rows: int, cols: int) -> Tensor:
    """`torch.nn.functional.affine_grid` with align_corners=False, by sums, three times faster: [B, rows, cols, 2]."""
    y, x = ((2 * torch.arange(n, device=affine.device) + 1) / n - 1 for n in (rows, cols))
    along_x, along_y, shift = affine.unbind(dim=2)  # [B, 2] each
    column = along_y[:, None] * y[:, None] + shift[:, None]  # [B, rows, 2]
    return along_x[:, None, None] * x[:, None] + column[:, :, None]


def _to_power(soft: Tensor, gamma: Tensor) -> Tensor:
    """Soft tissue [B, H, W] to the power that each slice drew [B], its least and greatest HU as they were."""
    if (gamma == 1).all():
        return soft
    share = (soft + SOFT_HU) / (2 * SOFT_HU)
    return share.pow(_each(gamma, soft)) * (2 * SOFT_HU) - SOFT_HU


def _coarser(images: Tensor, zoom: Tensor) -> Tensor:
    """Images [B, H, W] as a scanner of fewer pixels sees them: averaged to the share that each drew [B], and back."""
    if (zoom == 1).all():
        return images
    size = images.shape[1:]
    seen = []
    for image, share in zip(images[:, None, None], zoom.tolist(), strict=True):
        coarse = F.interpolate(image, [max(1, round(share * n)) for n in size], mode="area")
        seen.append(F.interpolate(coarse, size, mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(seen)


def _noise(changes: Augmentation, like: Tensor) -> Tensor:
    """Grainy noise [B, H, W] with the standard deviation that each slice drew."""
    generator = torch.Generator(like.device)
    noise = torch.empty(like.shape, device=like.device)
    for image, seed in zip(noise, changes.noise_seed, strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    noise = gaussian_blur(noise, changes.grain_px.to(like.device))
    strength = noise.square().mean(dim=(1, 2)).sqrt()  # its mean is next to nothing
    return noise.mul_(_each(changes.noise_hu.to(like.device) / strength, like))


def _each(values: Tensor, like: Tensor) -> Tensor:
    """One number a slice [B] → [B, 1, 1] on the device of `like`."""
    return values.to(like.device)[:, None, None]
