"""HiResCAM on Swin: GradCAM with a gradient per token."""

from torch import Tensor, nn

from hgisam.attention.gradients import activation_gradients
from hgisam.attention.swin import Logit
from hgisam.maps.combine import grid_to_map


def hires_cam(
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
    """Gradient × activation of one layer per token, summed over channels and rectified.

    Args, Returns and Raises: those of `grad_cam`.

    The output of the very last block is no use here: the final norm makes the logit independent of the length of a
    token's vector, and gradient × activation sums to rounding errors.

    Example:
        >>> import torch
        >>> from timm.models import SwinTransformer
        >>> hires_cam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Draelos and Carin, HiResCAM, arXiv 2011.08891; negative sums, evidence against the class, are 0 here.
    """
    layers = activation_gradients(model, images, target, layers=[(stage, block)], at=at, logit=logit)
    ((geometry, (activation, gradient)),) = layers.items()
    return grid_to_map((gradient * activation).sum(dim=-1).relu(), geometry, images, brain)
