"""Integrated gradients: the effect of each pixel on the logit, along a path from a blank image."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import image_gradients
from hgisam.attention.inspection import Logit, check_images
from hgisam.errors import InputError
from hgisam.maps.combine import to_unit_range


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    steps: int = 32,
    batch_size: int = 32,
) -> Tensor:
    """Image × mean gradient of the logit on the way from 0 to the image, summed over channels and rectified.

    Standardised channels are 0 at the mean of the brain: the path starts at a slice without contrast. Before they are
    rectified the effects of all pixels sum to the difference of the two logits (completeness), but for the `steps`.

    Args:
        model, images, target, brain, logit: As in `hgi_sam`.
        steps: Points of the path (midpoint rule); each costs a forward and a backward pass.
        batch_size: Images per pass; there is one image per step and given image.

    Returns and Raises: those of `hgi_sam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> swin = SwinTransformer(img_size=64, window_size=2)
        >>> integrated_gradients(swin, torch.randn(1, 3, 64, 64), target=0, steps=4).shape
        torch.Size([1, 64, 64])

    Source: Sundararajan, Taly, Yan, ICML 2017; negative sums are 0 here.
    """
    if steps < 1:
        raise InputError("steps", steps, "1 or more", "Use 32.")
    check_images(images)
    shares = ((torch.arange(steps, device=images.device) + 0.5) / steps).to(images)
    path = torch.einsum("s,b...->sb...", shares, images.detach()).flatten(0, 1)  # [steps · B, C, *size]
    gradients = [image_gradients(model, points, target, logit=logit) for points in path.split(batch_size)]
    gradient = torch.cat(gradients).unflatten(0, (steps, len(images))).mean(dim=0)
    return to_unit_range((gradient * images.detach()).sum(dim=1).relu(), brain)
