"""A ResNet-18 of fewer channels, as timm builds it, with random weights."""

from collections.abc import Sequence
from typing import Any

import timm
from torch import nn


def resnet18(channels: int, widths: Sequence[int], *, last_stage: int = 4, output_stride: int = 32) -> nn.Module:
    """A ResNet-18 with random weights: images [B, channels, H, W] → list of one feature map.

    Args:
        channels: Of the images.
        widths: Channels of its four stages.
        last_stage: 1 to 4, whose feature map it returns; later stages are left out.
        output_stride: Pixels per cell of stage 4; dilation replaces the strides beyond it.

    Example:
        >>> import torch
        >>> encoder = resnet18(3, (16, 32, 64, 128), output_stride=8)
        >>> encoder(torch.zeros(2, 3, 64, 64))[0].shape
        torch.Size([2, 128, 8, 8])
    """
    options: dict[str, Any] = {"in_chans": channels, "channels": tuple(widths), "output_stride": output_stride}
    return timm.create_model("resnet18", features_only=True, out_indices=(last_stage,), **options)
