"""GradCAM on Swin: the rival that needs no attention."""

from torch import Tensor, nn

from hgisam.attention.gradients import activation_gradients
from hgisam.attention.swin import pair
from hgisam.maps.combine import min_max, to_unit_range, upsample


def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    stage: int = -1,
    block: int = -1,
    at: str = "norm1",
) -> Tensor:
    """Channels of one layer, each weighted with the mean of its gradient.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained; 0 of a head with one logit.
        brain: [B, H, W] mask, or None.
        stage: Stage of the layer, from 0; -1 is the last.
        block: BlockGeometry of that stage, likewise.
        at: "norm1", "norm2" or "output" of the block. It matters: before attention (norm1) or before the MLP (norm2)
            in version 1, behind them in version 2; only the output carries the whole residual stream.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where nothing speaks for the class.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017; the default layer is that of the released HGI-SAM code, which
    explains the predicted class instead of a given one.
    """
    layers = activation_gradients(model, images, target, layers=[(stage, block)], at=at)
    ((place, (activation, gradient)),) = layers.items()
    weights = gradient.mean(dim=(1, 2), keepdim=True)  # [B, 1, 1, channels]
    cam = (weights * activation).sum(dim=3).relu()
    return to_unit_range(upsample(min_max(cam), pair(images.shape[2:]), place.extent), brain)
