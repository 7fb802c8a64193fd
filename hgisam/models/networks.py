"""The network of a profile: timm's Swin transformer for classifiers, MONAI's networks for segmenters."""

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import init_weights_vit_timm
from torch import nn

from hgisam.config.networks import Model
from hgisam.config.profile import Profile
from hgisam.models.tasks import TASKS


def build_network(profile: Profile) -> nn.Module:
    """The network of the profile's task, with random weights: a classifier, or a segmenter."""
    channels, classes = len(profile.windows), len(TASKS[profile.task].classes)
    if profile.task == "segmentation":
        from hgisam.models.segmenters import build_segmenter  # MONAI takes seconds

        segmenter = build_segmenter(profile.segmenter, channels=channels, classes=classes)
        return segmenter.to(memory_format=torch.channels_last)  # which convolutions read fastest
    return build_classifier(profile.model, image_px=profile.data.image_px, channels=channels, classes=classes)


def build_classifier(settings: Model, *, image_px: int, channels: int, classes: int) -> SwinTransformer:
    """A Swin classifier with random weights.

    `image_px = 8 × patch_px × window_tokens` gives the topology of the paper's Swin-B at any scale: 8 × 8, 4 × 4,
    2 × 2 and 1 window in the four stages, the last of them unshifted. `pool` is how the last tokens become one feature
    vector: "avg" as in the paper's Swin-B, or "max", with which a small Swin trains from scratch, since a slice bleeds
    if any part of it does.

    One seed gives every number of classes the same backbone, so that tasks can be compared head by head.

    Args:
        settings: The Swin.
        image_px: Side of the slices in pixels.
        channels: Windows per slice.
        classes: Logits.
    """
    shape = settings.shape
    model = SwinTransformer(
        img_size=image_px,
        patch_size=shape.patch_px,
        in_chans=channels,
        num_classes=len(TASKS["binary"].classes),
        embed_dim=shape.channels,
        depths=shape.depths,
        num_heads=shape.heads,
        window_size=settings.window_tokens,
        global_pool=settings.pool,
        drop_path_rate=settings.drop_path,
    )
    if classes != model.num_classes:
        model.reset_classifier(classes)  # only now: timm samples the backbone's weights after those of the head
        model.head.apply(init_weights_vit_timm)
    return model


def network_name(profile: Profile) -> str:
    """The network of the profile's task in a few words: timm's or MONAI's name, or the numbers of a Swin."""
    if profile.task == "segmentation":
        return profile.segmenter.architecture
    if profile.model.architecture is not None:
        return profile.model.architecture
    shape = profile.model.shape
    depths, heads = ("-".join(map(str, numbers)) for numbers in (shape.depths, shape.heads))
    numbers = f"patch {shape.patch_px}, window {profile.model.window_tokens}, {shape.channels} channels"
    return f"swin ({numbers}, depths {depths}, heads {heads})"
