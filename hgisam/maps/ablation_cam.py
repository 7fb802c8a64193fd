"""AblationCAM on Swin: channels weighted by what the logit loses without them, no gradients."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import changed_logit
from hgisam.attention.swin import BlockGeometry, Logit, check_images, spatial_size, upcast
from hgisam.errors import InputError
from hgisam.maps.combine import min_max, to_unit_range, upsample


def ablation_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    stage: int = -1,
    block: int = -1,
    at: str = "output",
    batch_size: int = 32,
) -> Tensor:
    """Channels of one layer, each weighted by the drop of the logit when it is set to 0, summed and rectified.

    It costs 1 + channels forward passes per image, of 768 channels in the last stage of Swin-T.

    Args:
        model, images, target, brain, logit: As in `hgi_sam`.
        stage, block, at: The layer, as in `grad_cam`.
        batch_size: Images per forward pass, one for each image and channel; fewer need less memory.

    Returns and Raises: those of `grad_cam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> ablation_cam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Ramaswamy and Desai, Ablation-CAM, WACV 2020. Departs from it: the drop is not divided by the logit, which
    would reverse the map where the logit is negative, and else only scales it.
    """
    layer = (stage, block)
    whole, activation, geometry = logit_and_activation(model, images, target, layer=layer, at=at, logit=logit)
    channels = activation.shape[-1]
    lost = []
    for image, channel in image_and_channel(images, channels, batch_size):
        kept = torch.arange(channels, device=images.device) != channel[:, None]  # [batch, channels]

        def ablate(_: BlockGeometry, tokens: Tensor, kept: Tensor = kept) -> Tensor:
            return torch.einsum("bc,b...c->b...c", kept.to(tokens), tokens)

        lost.append(whole[image] - changed_logit(model, images[image], target, ablate, layer=layer, at=at, logit=logit))
    weights = torch.cat(lost).view(-1, channels).to(activation)
    return weighted_channels(weights, activation, geometry, images, brain)


def logit_and_activation(
    model: nn.Module, images: Tensor, target: int, *, layer: tuple[int, int], at: str, logit: Logit | None
) -> tuple[Tensor, Tensor, BlockGeometry]:
    """Logit [B], activation of one layer with channels last, float32 or better, and its block; no gradients."""
    check_images(images)
    kept: dict[BlockGeometry, Tensor] = {}

    def keep(block: BlockGeometry, tokens: Tensor) -> None:
        kept[block] = upcast(tokens)

    whole = changed_logit(model, images, target, keep, layer=layer, at=at, logit=logit)
    ((geometry, activation),) = kept.items()
    return whole, activation, geometry


def image_and_channel(images: Tensor, channels: int, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Indices of images and channels, each pair once, in batches."""
    if batch_size < 1:
        raise InputError("batch_size", batch_size, "1 or more", "Use 32, or fewer where memory is short.")
    pairs = torch.arange(len(images) * channels, device=images.device).split(batch_size)
    return [(pair // channels, pair % channels) for pair in pairs]


def weighted_channels(
    weights: Tensor, activation: Tensor, geometry: BlockGeometry, images: Tensor, brain: Tensor | None
) -> Tensor:
    """The map of weights [B, channels] and an activation with channels last: their sum, rectified and upsampled."""
    cam = torch.einsum("bc,b...c->b...", weights, activation).relu()
    return to_unit_range(upsample(min_max(cam), spatial_size(images), geometry.extent), brain)
