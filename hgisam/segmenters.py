"""The segmenters of the supervised baselines: MONAI's U-Net and Swin-UNETR, in two dimensions."""

from typing import Any

from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from torch import nn

from hgisam.profile import Profile
from hgisam.tasks import TASKS


def build_segmenter(profile: Profile) -> nn.Module:
    """A network from images [B, C, H, W] to logits [B, 2, H, W], the classes of the task, of every pixel.

    "unet" has a residual unit of two convolutions a level; "swin_unetr" has patches of 2 pixels, windows of 7 tokens.

    Args:
        profile: Sections `segmenter` and `windows` are used.

    Source: the baselines of Rasoulian 2023; departs from the released code, whose U-Net adds no residuals, takes the
        maximum of four pixels to the next level and normalises nothing (here `segmenter.norm: none`).
    """
    settings, classes = profile.segmenter, TASKS["segmentation"].classes
    options: dict[str, Any] = {"spatial_dims": 2, "in_channels": len(profile.windows), "out_channels": len(classes)}
    if settings.architecture == "swin_unetr":
        options |= {"feature_size": settings.feature_size, "depths": settings.depths, "num_heads": settings.heads}
        return SwinUNETR(**options)
    options |= {"channels": settings.channels, "strides": [2] * settings.halvings, "num_res_units": 2}
    options["norm"] = None if settings.norm == "none" else settings.norm
    return UNet(**options)
