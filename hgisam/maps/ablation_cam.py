"""AblationCAM on Swin: channels weighted by what the logit loses without them, no gradients."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import changed_logit, logit_and_activation
from hgisam.attention.swin import BlockGeometry, Logit
from hgisam.maps.combine import image_and_channel, weighted_channels


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
