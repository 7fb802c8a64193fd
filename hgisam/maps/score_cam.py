"""ScoreCAM on Swin: channels weighted by the logit of the image that they leave visible, no gradients."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import logit_and_activation
from hgisam.attention.swin import Logit, inspection_mode, spatial_size, target_logit
from hgisam.maps.combine import image_and_channel, min_max, upsample, weighted_channels


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
    the mask leaves where the channel is low. It costs 1 + channels forward passes per image, as `ablation_cam`.

    Args, Returns and Raises: those of `ablation_cam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> score_cam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Wang et al., Score-CAM, CVPRW 2020. As in pytorch-grad-cam, the logit of a blank image is not subtracted: a
    softmax does not change by a constant.
    """
    layer = (stage, block)
    _, activation, geometry = logit_and_activation(model, images, target, layer=layer, at=at, logit=logit)
    channels = activation.shape[-1]
    scores = []
    for image, channel in image_and_channel(images, channels, batch_size):
        grids = activation.movedim(-1, 1)[image, channel]  # [batch, rows, cols]
        masks = min_max(upsample(grids, spatial_size(images), geometry.extent)).to(images)
        visible = images[image] * masks[:, None]
        with torch.no_grad(), inspection_mode(model):
            scores.append(target_logit(model, visible, target, logit))
    weights = torch.cat(scores).view(-1, channels).softmax(dim=1).to(activation)
    return weighted_channels(weights, activation, geometry, images, brain)
