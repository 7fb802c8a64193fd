"""Data augmentation: sampled on the CPU slice by slice, applied to a batch on its device.

The augmentation of a slice depends on the seed, the epoch and its row number alone. So an epoch can be resumed at any
step, and processes that share a batch augment its slices as one process would.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hgisam.config.profile import Augment
from hgisam.data.preprocess import gaussian_blur

AIR_HU = -1000.0  # outside the field of view
SOFT_HU = 150.0  # upper bound of soft tissue, whose lower bound is its negative; HU above have a separate gain
RIM_PX, RIM_REACH_PX = (1.0, 6.0), 14  # standard deviations of the rim's fall into the brain; where it ends
RIM_CELLS = 5  # along a side, of the field that makes the rim uneven


@dataclass(frozen=True)
class Augmentation:
    """Sampled augmentation of each slice of a batch, on the CPU; [B] unless a comment gives another shape."""

    affine: Tensor  # [B, 2, 3] from output to input coordinates, as in torch.nn.functional.affine_grid
    blur_px: Tensor  # standard deviation
    soft_gain: Tensor  # factor on HU of soft tissue
    dense_gain: Tensor  # factor on HU above
    noise_hu: Tensor  # standard deviation
    grain_px: Tensor  # standard deviation of the blur of the noise
    noise_seed: tuple[int, ...]
    visible: Tensor  # [B, cells, cells], 0 for a hidden cell
    gamma: Tensor  # exponent of the gamma transform of soft tissue
    zoom: Tensor  # factor on the number of pixels per side, for low resolution
    rim_hu: Tensor  # [B, cells, cells], HU added at the skull
    rim_px: Tensor  # standard deviation of the rim's fall into the brain


def sample_augmentation(rows: npt.NDArray[np.int64], settings: Augment, seed: int, epoch: int) -> Augmentation:
    """Sample pose, scanner, noise, hidden cells and resolution for the slices of row numbers [B], epochs from 0."""
    sampled = [_sample(np.random.default_rng((seed, epoch, int(row))), settings) for row in rows]
    batch = {name: [values[name] for values in sampled] for name in sampled[0]}
    seeds = tuple(batch.pop("noise_seed"))
    tensors = {name: torch.tensor(np.array(values), dtype=torch.float32) for name, values in batch.items()}
    return Augmentation(noise_seed=seeds, **tensors)


def _sample(rng: np.random.Generator, settings: Augment) -> dict[str, Any]:
    """The fields of `Augmentation` for one slice."""
    angle = np.deg2rad(rng.uniform(-settings.rotate_deg, settings.rotate_deg))
    scale = 1 + rng.uniform(-settings.scale, settings.scale)
    flip = -1.0 if rng.random() < settings.flip else 1.0
    shift = rng.uniform(-2 * settings.shift, 2 * settings.shift, 2)
    rotation = [[np.cos(angle) * flip, -np.sin(angle)], [np.sin(angle) * flip, np.cos(angle)]]
    return {  # in this order, which the random numbers follow
        "affine": np.column_stack([np.array(rotation) * scale, shift]),
        "blur_px": rng.uniform(0, settings.blur_px),
        "soft_gain": 1 + rng.uniform(-settings.gain, settings.gain),
        "dense_gain": 1 + 2 * rng.uniform(-settings.gain, settings.gain),
        "noise_hu": rng.uniform(0, settings.noise_hu),
        "grain_px": rng.uniform(0, 1),
        "noise_seed": int(rng.integers(2**63 - 1)),
        "visible": rng.random((settings.hide_cells, settings.hide_cells)) >= settings.hide,
        "gamma": np.exp(rng.uniform(-settings.gamma, settings.gamma)),
        "zoom": 1 - max(0.0, rng.uniform(-settings.low_resolution, settings.low_resolution)),  # half keep theirs
        "rim_hu": settings.rim_hu * rng.uniform(-0.5, 1) * (1 + 0.6 * rng.standard_normal((RIM_CELLS, RIM_CELLS))),
        "rim_px": rng.uniform(*RIM_PX),
    }


def augment(hu: Tensor, brain: Tensor, changes: Augmentation, mask: Tensor | None = None) -> tuple[Tensor, ...]:
    """Apply sampled augmentation on the device of `hu`.

    Hidden cells count as outside the brain, so that a network can't rely on the most conspicuous spot of a bleed alone.
    The rim is what a scanner leaves of beam hardening and off-focal radiation under the skull: no two scanners, and no
    two places of a head, have the same.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside; transformed with the slice.
        changes: From `sample_augmentation`, for the same slices.
        mask: [B, H, W] of a bleed, transformed with the slice, or None.

    Returns:
        HU and brain, both [B, H, W] float32, and the mask likewise, 0 or 1, if there is one.

    Source: hidden cells as in Singh and Lee, Hide-and-Seek, ICCV 2017; all else as in Isensee et al., nnU-Net, Nature
        Methods 2021, but applied to every slice, and without two of its transforms: brightness, since preprocessing
        shifts every slice to one HU level, and anterior-posterior mirroring, since heads have a front.
    """
    device, size = hu.device, hu.shape[1:]
    grid = _sampling_grid(changes.affine.to(device), *size)
    layers = [hu.float() - AIR_HU, (brain > 0).float(), *([(mask > 0).float()] if mask is not None else [])]
    moved, inside, *masks = F.grid_sample(torch.stack(layers, dim=1), grid, align_corners=False).unbind(dim=1)
    moved = gaussian_blur(moved + AIR_HU, changes.blur_px.to(device)) + _rim(inside, changes)
    soft = moved.clamp(-SOFT_HU, SOFT_HU)
    dense = (moved - soft) * _per_slice(changes.dense_gain, hu)
    changed = _gamma_transform(soft, changes.gamma) * _per_slice(changes.soft_gain, hu) + dense + _noise(changes, hu)
    visible = F.interpolate(changes.visible[:, None].to(device), size, mode="nearest")[:, 0]
    return _low_resolution(changed, changes.zoom), (inside > 0.5) * visible, *((m > 0.5).float() for m in masks)


def _sampling_grid(affine: Tensor, rows: int, cols: int) -> Tensor:
    """`torch.nn.functional.affine_grid` with align_corners=False, three times faster: [B, rows, cols, 2]."""
    y, x = ((2 * torch.arange(n, device=affine.device) + 1) / n - 1 for n in (rows, cols))
    along_x, along_y, shift = affine.unbind(dim=2)  # [B, 2] each
    column = along_y[:, None] * y[:, None] + shift[:, None]  # [B, rows, 2]
    return along_x[:, None, None] * x[:, None] + column[:, :, None]


def _rim(inside: Tensor, changes: Augmentation) -> Tensor:
    """HU [B, H, W] of a rim that falls from the edge of the brain [B, H, W] inwards, unevenly around the head."""
    if not changes.rim_hu.any():
        return torch.zeros_like(inside)
    from_skull = gaussian_blur((inside < 0.5).float(), changes.rim_px.to(inside.device), radius=RIM_REACH_PX)
    cells = changes.rim_hu[:, None].to(inside.device)
    return 2 * from_skull * F.interpolate(cells, inside.shape[1:], mode="bicubic", align_corners=False)[:, 0]


def _gamma_transform(soft: Tensor, gamma: Tensor) -> Tensor:
    """Gamma transform of soft tissue [B, H, W] with exponents [B], between the bounds of soft tissue."""
    if (gamma == 1).all():
        return soft
    share = (soft + SOFT_HU) / (2 * SOFT_HU)
    return share.pow(_per_slice(gamma, soft)) * (2 * SOFT_HU) - SOFT_HU


def _low_resolution(images: Tensor, zoom: Tensor) -> Tensor:
    """Images [B, H, W] downsampled by the factors [B], as by a scanner with fewer pixels, and upsampled again."""
    if (zoom == 1).all():
        return images
    size, blurred = images.shape[1:], []
    for image, factor in zip(images[:, None, None], zoom.tolist(), strict=True):
        coarse = F.interpolate(image, [max(1, round(factor * n)) for n in size], mode="area")
        blurred.append(F.interpolate(coarse, size, mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(blurred)


def _noise(changes: Augmentation, like: Tensor) -> Tensor:
    """Correlated Gaussian noise [B, H, W] with the sampled standard deviations."""
    generator = torch.Generator(like.device)
    noise = torch.empty(like.shape, device=like.device)
    for image, seed in zip(noise, changes.noise_seed, strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    noise = gaussian_blur(noise, changes.grain_px.to(like.device))
    strength = noise.square().mean(dim=(1, 2)).sqrt()  # its mean is nearly 0
    return noise.mul_(_per_slice(changes.noise_hu.to(like.device) / strength, like))


def _per_slice(values: Tensor, like: Tensor) -> Tensor:
    """[B] → [B, 1, 1] on the device of `like`."""
    return values.to(like.device)[:, None, None]
