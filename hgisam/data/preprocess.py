"""Preprocessing: from HU to the standardised channels of a network, on the device of the slices."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hgisam.data.masked_blur import masked_blur
from hgisam.data.windows import apply_windows

if TYPE_CHECKING:
    from hgisam.config.profile import Profile, Window
    from hgisam.data.batches import Batch

BRAIN_HU = 34.0  # between white and gray matter
DENSEST_BLOOD_HU = 100.0
BONE_EDGE_MM = 1.0  # reach of the partial volume of bone, which has the HU of blood
INPAINT_MM = 1.5  # standard deviation of the Gaussian that inpaints tissue beside bone
MIN_TISSUE = 0.02  # minimum share of tissue around an inpainted pixel

Scale = Literal["brain", "slice"]


@dataclass(frozen=True)
class Preprocessor:
    """HU and brain mask of slices → input of a network.

    With scale "brain": the soft tissue of the brain, windowed and standardised by its own statistics. 20 HU of blood
    vanish beside 1,000 HU of bone; standardised over soft tissue they are several standard deviations. All else is set
    to the mean, so that neither decision nor map can rely on skull, face or head rest. With scale "slice", as in the
    released code: the whole slice, windowed, each channel scaled to [0, 1].

    Attributes:
        windows: CT windows, one per channel.
        pixel_mm: Pixel pitch in mm.
        mean: [C] mean of the windowed soft tissue, from `fit`.
        std: [C] its standard deviation, from `fit`.
        scale: "brain" or "slice".

    Example:
        >>> import torch
        >>> from hgisam.config import load_profile
        >>> profile = load_profile("smoke")
        >>> preprocess = Preprocessor(profile.windows, profile.pixel_mm, torch.zeros(3), torch.ones(3))
        >>> preprocess(torch.full((1, 96, 96), 40), torch.ones(1, 96, 96)).shape
        torch.Size([1, 3, 96, 96])
    """

    windows: Sequence["Window"]
    pixel_mm: float
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    std: Tensor = field(default_factory=lambda: torch.ones(()))
    scale: Scale = "brain"

    @classmethod
    def of(cls, profile: "Profile") -> "Preprocessor":
        """The preprocessing of a profile, not yet fitted."""
        return cls(profile.windows, profile.pixel_mm, scale=profile.train.scale)

    def fit(self, batches: Iterable["Batch"]) -> "Preprocessor":
        """A copy with the mean and standard deviation of each channel over the soft tissue of training slices."""
        total, squares = torch.zeros(2, len(self.windows), dtype=torch.float64)
        count = torch.tensor(0)
        for batch in batches:
            levelled, tissue = soft_tissue(batch.hu, batch.brain, self.pixel_mm)
            channels = apply_windows(levelled, self.windows).double()
            total += (channels * tissue[:, None]).sum(dim=(0, 2, 3))
            squares += (channels.square() * tissue[:, None]).sum(dim=(0, 2, 3))
            count = count + tissue.sum()
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(1e-6).sqrt()
        return replace(self, mean=mean.float(), std=std.float())

    def __call__(self, hu: Tensor, brain: Tensor) -> Tensor:
        """[B, H, W] HU and brain, 0 outside → [B, C, H, W] float32, on the device of `hu`."""
        if self.scale == "slice":
            channels = apply_windows(hu, self.windows)
            lowest, highest = channels.amin(dim=(2, 3), keepdim=True), channels.amax(dim=(2, 3), keepdim=True)
            return (channels - lowest) / (highest - lowest).clamp_min(1e-6)
        levelled, tissue = soft_tissue(hu, brain, self.pixel_mm)
        inpainted, inside = inpaint_beside_bone(levelled, tissue, brain, self.pixel_mm)
        channels = apply_windows(inpainted, self.windows)
        mean, std = (statistic.to(hu.device).view(1, -1, 1, 1) for statistic in (self.mean, self.std))
        return channels.sub_(mean).div_(std).mul_(inside[:, None])


def soft_tissue(hu: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """HU with the brain at one level [B, H, W] float32, and the brain's soft tissue, no bone or calcium [B, H, W] bool.

    Scanners and kernels differ by several HU in the brain, and blood by few more: the median of each slice's brain (of
    every second pixel per side, for speed) is shifted to `BRAIN_HU`. Pixels denser than blood are left out, and so is
    their partial volume, which has the HU of blood.
    """
    hu = hu.float()
    inside = brain > 0
    sample = hu[:, ::2, ::2].masked_fill(~inside[:, ::2, ::2], torch.nan)
    median = sample.flatten(start_dim=1).nanmedian(dim=1).values
    hu = hu + (BRAIN_HU - median).nan_to_num(0.0)[:, None, None]
    edge_px = max(1, round(BONE_EDGE_MM / pixel_mm))
    return hu, inside & ~_dilated(hu > DENSEST_BLOOD_HU, edge_px)


def _dilated(mask: Tensor, pixels: int) -> Tensor:
    """Dilation of [B, H, W] bool by a square that reaches so many pixels; faster than max pooling."""
    for axis in (1, 2):
        grown, length = mask.clone(), mask.shape[axis]
        for shift in range(1, min(pixels, length - 1) + 1):
            ahead, behind = mask.narrow(axis, shift, length - shift), mask.narrow(axis, 0, length - shift)
            grown.narrow(axis, 0, length - shift).logical_or_(ahead)
            grown.narrow(axis, shift, length - shift).logical_or_(behind)
        mask = grown
    return mask


def inpaint_beside_bone(levelled: Tensor, tissue: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """Inpaint partial-volume pixels beside bone with a Gaussian mean of the tissue around them, inside the brain.

    Takes the output of `soft_tissue`. Returns HU [B, H, W] float32, and where it is measured or inpainted [B, H, W]
    bool. A subdural or epidural bleed touches the bone: without this, nearly half of it on a coarse grid is left out.
    """
    sigma_px = torch.full(levelled.shape[:1], INPAINT_MM / pixel_mm, device=levelled.device)
    radius = math.ceil(3 * INPAINT_MM / pixel_mm)
    beside, near = masked_blur(levelled, tissue.float(), lambda image: gaussian_blur(image, sigma_px, radius))
    return torch.where(tissue, levelled, beside), tissue | ((brain > 0) & (near > MIN_TISSUE))


def gaussian_blur(images: Tensor, sigma_px: Tensor, radius: int = 3) -> Tensor:
    """Gaussian blur of [B, H, W], one sigma per image [B], truncated at `radius` pixels."""
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # [B, 2 · radius + 1]
    batch, taps = kernel.shape
    padded = F.pad(images[None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.view(batch, 1, taps, 1), groups=batch)
    return F.conv2d(rows, kernel.view(batch, 1, 1, taps), groups=batch)[0]
