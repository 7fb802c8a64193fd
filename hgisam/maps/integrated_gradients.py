"""Integrated gradients: the effect of each pixel on the logit, along the path from a blank image to the image."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import image_gradients
from hgisam.attention.swin import Logit, check_images, upcast
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
) -> Tensor:
    """Image × mean gradient of the logit on the path from 0 to the image, summed over channels and rectified.

    Standardised channels are 0 at the mean of the brain: the path begins at a slice without contrast.

    Args:
        model, images, target, brain, logit: As in `hgi_sam`.
        steps: Points of the path, the image itself included and the blank one not, where all tokens tie (right Riemann
            sum); each costs a forward and a backward pass.

    Returns and Raises: those of `hgi_sam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2)
        >>> integrated_gradients(model, torch.randn(1, 3, 64, 64), target=0, steps=4).shape
        torch.Size([1, 64, 64])

    Source: Sundararajan, Taly, Yan, Axiomatic attribution, ICML 2017; negative sums are 0 here.
    """
    effect = pixel_effects(model, images, target, steps=steps, logit=logit)
    return to_unit_range(effect.sum(dim=1).relu(), brain)


def pixel_effects(model: nn.Module, images: Tensor, target: int, *, steps: int, logit: Logit | None = None) -> Tensor:
    """Integrated gradients, shaped as the images, with their sign.

    Their sum is the logit of the image less that of a blank one (completeness), but for the error of the steps.
    """
    check_images(images)
    if steps < 1:
        raise InputError("steps", steps, "1 or more", "Use 32.")
    total = torch.zeros_like(upcast(images))
    for step in range(steps, 0, -1):  # from the image itself on
        total += image_gradients(model, images.detach() * (step / steps), target, logit=logit)
    return total / steps * images.detach()
