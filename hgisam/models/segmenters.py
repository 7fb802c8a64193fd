"""Segmenters of the supervised baselines: U-Nets and Swin-UNETR in two dimensions, from MONAI's parts."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from hgisam.config.networks import Segmenter


def build_segmenter(settings: Segmenter, *, channels: int, classes: int) -> nn.Module:
    """Build a segmenter with random weights: images [B, channels, H, W] → logits of each pixel [B, classes, H, W].

    "unet" has a residual unit of two convolutions per level, "basic_unet" two plain convolutions; "swin_unetr" has
    patches of 2 pixels and windows of 7 tokens.

    Source: the baselines of Rasoulian 2023. The released U-Net has no residuals, max pooling and no normalisation: here
        "basic_unet" with `segmenter.norm: none`.
    """
    options: dict[str, Any] = {"spatial_dims": 2, "in_channels": channels, "out_channels": classes}
    if settings.architecture == "swin_unetr":
        options |= {"feature_size": settings.feature_size, "depths": settings.depths, "num_heads": settings.heads}
        return SwinUNETR(**options)
    norm: Any = None if settings.norm == "none" else settings.norm
    if settings.architecture == "basic_unet":
        return BasicUNet(channels, classes, settings.channels or (), norm)
    options |= {"channels": settings.channels, "strides": [2] * settings.halvings, "num_res_units": 2}
    return UNet(**options, norm=norm)


class BasicUNet(nn.Module):
    """U-Net: two convolutions per level, max pooling, skip connections; any number of levels, finest first.

    Source: Ronneberger et al., U-Net, MICCAI 2015, with padding that keeps the sides; blocks of MONAI's BasicUNet.
    """

    def __init__(self, channels_in: int, channels_out: int, channels: Sequence[int], norm: str | None) -> None:
        super().__init__()
        block: dict[str, Any] = {"spatial_dims": 2, "act": "relu", "norm": norm, "bias": True}
        levels = list(pairwise(channels))
        self.first = TwoConv(in_chns=channels_in, out_chns=channels[0], **block)
        self.down = nn.ModuleList(Down(in_chns=fine, out_chns=coarse, **block) for fine, coarse in levels)
        up = (UpCat(in_chns=coarse, cat_chns=fine, out_chns=fine, **block) for fine, coarse in reversed(levels))
        self.up = nn.ModuleList(up)
        self.last = nn.Conv2d(channels[0], channels_out, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → logits [B, K, H, W]."""
        levels = [self.first(images)]
        for down in self.down:
            levels.append(down(levels[-1]))
        features = levels.pop()
        for up in self.up:
            features = up(features, levels.pop())
        logits: Tensor = self.last(features)
        return logits
