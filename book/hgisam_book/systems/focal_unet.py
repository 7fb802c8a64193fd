"""The network of FocalSegNet: a U-Net in three dimensions with an encoder of focal modulation.

Source: Rasoulian et al., Weakly supervised segmentation of intracranial aneurysms using a novel 3D focal modulation
    UNet, arXiv 2308.03001, after its authors' code of March 2023. Blocks, widths and decoder are theirs. Ours, since CT
    slices are thick where their angiograms are isotropic, are strides and kernels along z.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from hgisam.errors import InputError

PAPER_WIDTHS = (24, 48, 96, 192)  # channels of the stages; the bottleneck has twice as many as the last
KERNELS = (3, 5, 7)  # of the contexts, each of which sees the one before
BLOCKS, MLP_RATIO, DROP_PATH, DROPOUT = 2, 4, 0.1, 0.25

# (slices, rows, cols) of the stem and of the step after each stage, for voxels of 3 mm in slices 5 mm apart. The
# paper's strides are 2 in each direction; a slab of a head has too few slices for five of them.
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
FLAT_LEVELS = 1  # the finest one, whose kernels see one slice, since its neighbours are farther than the kernel reaches

Size = tuple[int, int, int]  # (slices, rows, cols)


class FocalModulation(nn.Module):
    """Focal modulation: the query of a voxel times a mixture of contexts of growing reach, by gates of the voxel.

    The contexts are float32 under autocast too: on a CPU the bfloat16 gradient of a depthwise kernel that is deeper
    than its volume (7 slices in 6) contains memory that was never written, which may be nan.

    Args:
        channels: Of the features.
        flat: Kernels that see one slice.

    Source: Yang et al., Focal modulation networks, NeurIPS 2022, with convolutions in three dimensions.
    """

    def __init__(self, channels: int, flat: bool = False) -> None:
        super().__init__()
        self.split = [channels, channels, len(KERNELS) + 1]  # query, context, gates
        self.project = nn.Linear(channels, sum(self.split))
        sizes = [(1 if flat else side, side, side) for side in KERNELS]
        self.contexts = nn.ModuleList(
            nn.Conv3d(channels, channels, size, padding="same", groups=channels, bias=False) for size in sizes
        )
        self.modulator = nn.Linear(channels, channels)  # the convolution 1 × 1 × 1
        self.out = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, D, H, W, C] → the same shape."""
        query, context, gates = self.project(features).split(self.split, dim=-1)
        mixture = torch.zeros_like(query)
        for number, convolution in enumerate(self.contexts):
            with torch.autocast(context.device.type, enabled=False):
                convolved = convolution(channels_first(context.float()))
            context = F.gelu(channels_last(convolved))
            mixture = mixture + context * gates[..., number, None]
        everywhere = F.gelu(context.mean(dim=(1, 2, 3), keepdim=True))
        mixture = mixture + everywhere * gates[..., -1, None]
        modulated: Tensor = self.out(query * self.modulator(mixture))
        return modulated


class FocalBlock(nn.Module):
    """Transformer block, with focal modulation in place of attention; norms come first.

    Args:
        channels: Of the features.
        flat: As in `FocalModulation`.
        drop_path: Share of the training examples that skip each of its two parts.
    """

    def __init__(self, channels: int, flat: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.modulation = FocalModulation(channels, flat)
        wide = MLP_RATIO * channels
        self.mlp = nn.Sequential(nn.Linear(channels, wide), nn.GELU(), nn.Linear(wide, channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, D, H, W, C] → the same shape."""
        features = features + self.drop_path(self.modulation(self.norm1(features)))
        found: Tensor = features + self.drop_path(self.mlp(self.norm2(features)))
        return found


class Downsample(nn.Module):
    """A strided convolution and a norm, from volumes [B, C, D, H, W] to features [B, D, H, W, C]."""

    def __init__(self, fine: int, coarse: int, kernel: Size, stride: Size, padding: Size = (0, 0, 0)) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(fine, coarse, kernel, stride, padding)
        self.norm = nn.LayerNorm(coarse)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, C, D, H, W] → features [B, D, H, W, C]."""
        found: Tensor = self.norm(channels_last(self.convolution(volumes)))
        return found


class ResidualBlock(nn.Module):
    """Two convolutions with instance norms, a convolution with a norm as the shortcut, and dropout of channels."""

    def __init__(self, channels_in: int, channels: int, flat: bool) -> None:
        super().__init__()

        def convolution(given: int) -> nn.Sequential:
            kernel = kernel_of(flat)
            return nn.Sequential(
                nn.Conv3d(given, channels, kernel, padding="same", bias=False), nn.InstanceNorm3d(channels)
            )

        self.first, self.second, self.shortcut = map(convolution, (channels_in, channels, channels_in))
        self.dropout = nn.Dropout3d(DROPOUT)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, C, D, H, W] → [B, channels, D, H, W]."""
        residual = self.second(F.gelu(self.first(volumes)))
        found: Tensor = self.dropout(F.gelu(residual + self.shortcut(volumes)))
        return found


class FocalUNet(nn.Module):
    """U-Net with an encoder of focal modulation and a decoder of residual blocks.

    Args:
        channels: Of the images, one per window.
        classes: Of the logits.
        widths: Channels of the four stages, finest first.

    Raises:
        InputError: For another number of stages.

    Example:
        >>> FocalUNet(3, 2, widths=(2, 4, 8, 16))(torch.zeros(1, 3, 12, 32, 32)).shape
        torch.Size([1, 2, 12, 32, 32])
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = PAPER_WIDTHS) -> None:
        super().__init__()
        if len(widths) != len(PAPER_WIDTHS):
            raise InputError("segmenter.channels", list(widths), "four widths", f"Set e.g. {list(PAPER_WIDTHS)}.")
        flat = [level < FLAT_LEVELS for level in range(len(widths) + 2)]
        levels = [widths[0], *widths, 2 * widths[-1]]  # of the decoder: at full resolution, of the stages, bottleneck
        drop = torch.linspace(0, DROP_PATH, BLOCKS * len(widths)).reshape(len(widths), BLOCKS).tolist()
        self.stem = Downsample(channels, widths[0], STRIDES[0], STRIDES[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(FocalBlock(width, level, rate) for rate in rates))
            for width, level, rates in zip(widths, flat[1:], drop, strict=False)
        )
        self.down = nn.ModuleList(
            Downsample(fine, coarse, kernel_of(level), stride, padding_of(level))
            for (fine, coarse), level, stride in zip(pairwise(levels[1:]), flat[1:], STRIDES[1:], strict=False)
        )
        inputs = [channels, *levels[1:]]
        self.skips = nn.ModuleList(ResidualBlock(*sizes) for sizes in zip(inputs, levels, flat, strict=True))
        self.up = nn.ModuleList(
            upsample(coarse, fine, level, stride)
            for (fine, coarse), level, stride in zip(pairwise(levels), flat, STRIDES, strict=False)
        )
        self.decoder = nn.ModuleList(
            ResidualBlock(2 * width, width, level) for width, level in zip(levels[:-1], flat, strict=False)
        )
        self.head = nn.Conv3d(levels[0], classes, kernel_of(flat[0]), padding="same")

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, channels, D, H, W] → logits [B, classes, D, H, W].

        The skip connections leave the stages after their blocks, by a norm without weights; the images are one too.
        """
        images = images.contiguous(memory_format=torch.channels_last_3d)
        found, features = [images], self.stem(images)
        for stage, down in zip(self.stages, self.down, strict=True):
            features = stage(features)
            found.append(normed(features))
            features = down(channels_first(features))
        found.append(normed(features))
        *skips, volumes = (skip(level) for skip, level in zip(self.skips, found, strict=True))
        parts = zip(skips, self.up, self.decoder, strict=True)
        for skip, up, block in reversed(list(parts)):
            volumes = block(torch.cat([up(volumes), skip], dim=1))
        logits: Tensor = self.head(volumes)
        return logits


def kernel_of(flat: bool) -> Size:
    """Size of a convolution kernel: one slice or three."""
    return (1 if flat else 3, 3, 3)


def padding_of(flat: bool) -> Size:
    """Padding around a volume that `kernel_of` needs to keep its size."""
    return (0 if flat else 1, 1, 1)


def upsample(coarse: int, fine: int, flat: bool, stride: Size) -> nn.ConvTranspose3d:
    """A transposed convolution, from [B, coarse, D, H, W] to [B, fine, …], each side `stride` times as long."""
    missing = (stride[0] - 1, stride[1] - 1, stride[2] - 1)
    return nn.ConvTranspose3d(coarse, fine, kernel_of(flat), stride, padding_of(flat), output_padding=missing)


def channels_first(features: Tensor) -> Tensor:
    """[B, D, H, W, C] → [B, C, D, H, W]."""
    return features.movedim(-1, 1)


def channels_last(volumes: Tensor) -> Tensor:
    """[B, C, D, H, W] → [B, D, H, W, C]."""
    return volumes.movedim(1, -1)


def normed(features: Tensor) -> Tensor:
    """Features [B, D, H, W, C] after a layer norm without weights, as volumes [B, C, D, H, W]."""
    return channels_first(F.layer_norm(features, features.shape[-1:]))
