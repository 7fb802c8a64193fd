"""GradCAM on Swin: the baseline without attention."""

from torch import Tensor, nn

from hgisam.attention.gradients import activation_gradients
from hgisam.attention.swin import Logit
from hgisam.maps.combine import weighted_channels


def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    stage: int = -1,
    block: int = -1,
    at: str = "norm1",
) -> Tensor:
    """Channels of one layer, each weighted by the mean of its gradient, summed and rectified.

    Args:
        model, images, target, brain, logit: As in `hgi_sam`.
        stage: Stage of the layer, from 0; -1 is the last.
        block: Block of that stage, likewise.
        at: "norm1", "norm2" or "output" of the block. The norms precede attention and MLP in version 1 and follow them
            in version 2; only the output is the whole residual stream.

    Returns and Raises: those of `hgi_sam`; zeros where nothing is evidence for the class.

    Example:
        >>> import torch
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> grad_cam(model, torch.randn(1, 3, 64, 64), target=0, stage=2, at="output").shape
        torch.Size([1, 64, 64])

    Source: Selvaraju et al., Grad-CAM, ICCV 2017; the default layer is that of the released HGI-SAM code, which
    explains the predicted class.
    """
    layers = activation_gradients(model, images, target, layers=[(stage, block)], at=at, logit=logit)
    ((geometry, (activation, gradient)),) = layers.items()
    weights = gradient.mean(dim=tuple(range(1, gradient.ndim - 1)))  # [B, channels]
    return weighted_channels(weights, activation, geometry, images, brain)
