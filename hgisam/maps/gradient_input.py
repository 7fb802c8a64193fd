"""Gradient × input: the first-order effect of each pixel on the logit."""

from torch import Tensor, nn

from hgisam.attention.gradients import image_gradients
from hgisam.attention.inspection import Logit
from hgisam.maps.combine import to_unit_range


def gradient_input(
    model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None, logit: Logit | None = None
) -> Tensor:
    """Gradient of the logit × image, summed over channels and rectified.

    Standardised channels are 0 at the mean of the brain: the product is the linear effect of replacing a pixel by it.

    Args, Returns and Raises: those of `hgi_sam`.

    Example:
        >>> import torch
        >>> from timm.models import SwinTransformer
        >>> gradient_input(SwinTransformer(img_size=64, window_size=2), torch.randn(1, 3, 64, 64), target=0).shape
        torch.Size([1, 64, 64])

    Source: Shrikumar et al., arXiv 1605.01713; negative sums are 0 here.
    """
    gradient = image_gradients(model, images, target, logit=logit)
    return to_unit_range((gradient * images.detach()).sum(dim=1).relu(), brain)
