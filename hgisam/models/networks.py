"""Networks of a profile: timm's Swin transformer for classifiers, MONAI's networks for segmenters."""

from typing import TYPE_CHECKING

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import init_weights_vit_timm
from torch import nn

from hgisam.models.tasks import TASKS

if TYPE_CHECKING:
    from hgisam.config.networks import Model
    from hgisam.config.profile import Profile


def build_network(profile: "Profile") -> nn.Module:
    """Build the classifier or segmenter of a profile's task, with random weights.

    Example:
        >>> from hgisam.config import load_profile
        >>> build_network(load_profile("smoke"))(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 2])
    """
    channels, classes = len(profile.windows), len(TASKS[profile.task].classes)
    if profile.task == "segmentation":
        from hgisam.models.segmenters import build_segmenter  # MONAI takes seconds

        segmenter = build_segmenter(profile.segmenter, channels=channels, classes=classes)
        return segmenter.to(memory_format=torch.channels_last)  # fastest for convolutions
    return build_classifier(profile.model, image_px=profile.data.image_px, channels=channels, classes=classes)


def build_classifier(settings: "Model", *, image_px: int, channels: int, classes: int) -> SwinTransformer:
    """Build a Swin classifier with random weights: images [B, channels, image_px, image_px] → logits [B, classes].

    With `image_px = 8 × patch_px × window_tokens` its four stages have 8 × 8, 4 × 4, 2 × 2 and 1 window, the last one
    unshifted, as in the paper's Swin-B. Global pooling is `avg` as in that Swin-B, or `max`: a small Swin trains from
    scratch with it, since a slice bleeds if any part of it does.

    With the same seed, the backbone is the same for every number of classes, so that tasks can be compared.

    Example:
        >>> from hgisam.config import load_profile
        >>> swin = build_classifier(load_profile("smoke").model, image_px=64, channels=3, classes=6)
        >>> [len(stage.blocks) for stage in swin.layers], swin.num_classes
        ([2, 2, 2, 2], 6)
    """
    shape = settings.shape
    model = SwinTransformer(
        img_size=image_px, patch_size=shape.patch_px, in_chans=channels, num_classes=len(TASKS["binary"].classes),
        embed_dim=shape.channels, depths=shape.depths, num_heads=shape.heads, window_size=settings.window_tokens,
        global_pool=settings.pool, drop_path_rate=settings.drop_path,
    )  # fmt: skip
    if classes != model.num_classes:
        model.reset_classifier(classes)  # only now: timm samples the backbone's weights after those of the head
        model.head.apply(init_weights_vit_timm)
    return model
