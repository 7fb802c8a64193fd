"""Gradient × input: what a first-order change of the pixels themselves would do to the logit."""

from torch import Tensor, nn

from hgisam.attention.gradients import image_gradients
from hgisam.maps.combine import to_unit_range


def gradient_input(model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None) -> Tensor:
    """Gradient of the logit times the image, summed over channels; what speaks for the class.

    Standardised channels are 0 at the mean of the brain: the product is the linear effect of replacing a pixel by it.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained; 0 of a head with one logit.
        brain: [B, H, W] mask, or None.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where nothing speaks for the class.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Shrikumar et al., arXiv 1605.01713; negative sums are zero here.
    """
    gradient = image_gradients(model, images, target)
    return to_unit_range((gradient * images.detach()).sum(dim=1).relu(), brain)
