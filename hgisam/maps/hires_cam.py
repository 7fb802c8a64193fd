"""HiResCAM on Swin: GradCAM that asks each token for its own gradient."""

from torch import Tensor, nn

from hgisam.attention.gradients import activation_gradients
from hgisam.attention.swin import pair
from hgisam.maps.combine import min_max, to_unit_range, upsample


def hires_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    stage: int = -1,
    block: int = -1,
    at: str = "norm1",
) -> Tensor:
    """Gradient times activation of one layer, token by token, summed over channels.

    Args, Returns and Raises: those of `grad_cam`.

    The output of the very last block tells nothing here: the final norm makes the logit indifferent to the length of a
    token's vector, and gradient times activation sums to rounding errors.

    Source: Draelos and Carin, HiResCAM, arXiv 2011.08891; negative sums, which speak against the class, are zero here.
    """
    layers = activation_gradients(model, images, target, layers=[(stage, block)], at=at)
    ((place, (activation, gradient)),) = layers.items()
    cam = (gradient * activation).sum(dim=3).relu()
    return to_unit_range(upsample(min_max(cam), pair(images.shape[2:]), place.extent), brain)
