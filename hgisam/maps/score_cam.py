"""ScoreCAM on Swin: channels weighted by the logit of the image that they leave visible. No gradients."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import changed_logit
from hgisam.attention.inspection import Logit
from hgisam.attention.swin import BlockGeometry
from hgisam.maps.ablation_cam import logit_and_activation
from hgisam.maps.combine import min_max, to_unit_range, upsample


def score_cam(
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
    """Channels of one layer, weighted by the softmax over channels of the logit of the image times the channel.

    Each channel is upsampled and scaled to [0, 1]: a mask. Standardised images are 0 at the mean of the brain, which
    the mask leaves where the channel is low.

    Args, Returns and Raises: those of `ablation_cam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> score_cam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Wang et al., Score-CAM, CVPRW 2020. As in pytorch-grad-cam, the logit of an empty image is not subtracted:
    a softmax does not change by a constant.
    """
    layer = (stage, block)
    _, activation, geometry = logit_and_activation(model, images, target, layer=layer, at=at, logit=logit)
    channels = activation.shape[-1]
    scores = []
    for shown in torch.arange(len(images) * channels, device=images.device).split(batch_size):
        image, channel = shown // channels, shown % channels
        grids = activation[image].movedim(-1, 1)[torch.arange(len(shown)), channel]  # [batch, *grid]
        masks = min_max(upsample(grids, images.shape[2:], geometry.extent)).to(images)
        scores.append(changed_logit(model, images[image] * masks[:, None], target, _as_is, layer=layer, at=at, logit=logit))
    weights = torch.cat(scores).view(-1, channels).softmax(dim=1).to(activation)
    cam = torch.einsum("bc,b...c->b...", weights, activation).relu()
    return to_unit_range(upsample(min_max(cam), images.shape[2:], geometry.extent), brain)


def _as_is(_: BlockGeometry, __: Tensor) -> None:
    """Leave the activation as it is."""
