"""The network of a task, at the size that a profile asks for: timm's Swin transformer for classifiers."""

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import init_weights_vit_timm
from torch import nn

from hgisam.config.profile import Profile
from hgisam.models.pretrained import load_local_weights
from hgisam.models.tasks import TASKS


def build_classifier(profile: Profile, *, pretrained: bool = True) -> SwinTransformer:
    """A Swin classifier with one logit a class of the task.

    `image_px = 8 × patch_px × window_tokens` gives the topology of the paper's Swin-B at any scale: 8 × 8, 4 × 4,
    2 × 2 and 1 window in the four stages, the last of them unshifted. `model.pool` is how the last tokens become one
    feature vector: "avg" as in the paper's Swin-B, or "max", with which a small Swin learns from scratch, since a slice
    bleeds if any part of it does.

    One seed gives every task the same random trunk, so that trainings for two tasks can be compared head by head.

    Args:
        profile: Sections `model`, `data` and `windows` are used.
        pretrained: Start from `model.pretrained`, if the profile names such a file.

    Raises:
        InputError: If the pretrained file is not there or does not fit.
    """
    settings, shape = profile.model, profile.model.shape
    model = SwinTransformer(
        img_size=profile.data.image_px,
        patch_size=shape.patch_px,
        in_chans=len(profile.windows),
        num_classes=len(TASKS["binary"].classes),
        embed_dim=shape.channels,
        depths=shape.depths,
        num_heads=shape.heads,
        window_size=settings.window_tokens,
        global_pool=settings.pool,
        drop_path_rate=settings.drop_path,
    )
    if (classes := len(TASKS[profile.task].classes)) != model.num_classes:
        model.reset_classifier(classes)  # only now: timm draws the trunk's weights after those of the head
        model.head.apply(init_weights_vit_timm)
    if pretrained and settings.pretrained is not None:
        load_local_weights(model, settings.pretrained, settings.pretrained_sha256)
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


def build_network(profile: Profile, *, pretrained: bool = True) -> nn.Module:
    """The network of the profile's task: a classifier, or a segmenter."""
    if profile.task == "segmentation":
        from hgisam.models.segmenters import build_segmenter  # MONAI takes seconds

        return build_segmenter(profile).to(memory_format=torch.channels_last)  # which convolutions read fastest
    return build_classifier(profile, pretrained=pretrained)
