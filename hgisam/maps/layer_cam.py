"""LayerCAM on Swin: positive gradients, token by token, over all stages."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import activation_gradients
from hgisam.attention.swin import pair
from hgisam.maps.combine import to_unit_range, upsample


def layer_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
    at: str = "output",
) -> Tensor:
    """Activations of each stage's last block times their positive gradients; fine and coarse stages by the larger.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained; 0 of a head with one logit.
        brain: [B, H, W] mask, or None.
        stages: Stages that are fused, from 0.
        at: "norm1", "norm2" or "output" of each stage's last block.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where nothing speaks for the class.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Jiang et al., LayerCAM, IEEE TIP 2021: element-wise maximum of tanh(2 · map / its maximum); there shallow
    layers only are so scaled, here all are, since Swin's deepest stage is as weak as they are.
    """
    layers = activation_gradients(model, images, target, layers=[(stage, -1) for stage in sorted(set(stages))], at=at)
    scaled = []
    for place, (activation, gradient) in layers.items():
        cam = (gradient.relu() * activation).sum(dim=3).relu()  # [B, rows, cols]
        peak = cam.amax(dim=(1, 2), keepdim=True)
        cam = torch.tanh(2 * cam / peak.where(peak > 0, 1.0))
        scaled.append(upsample(cam, pair(images.shape[2:]), place.extent))
    return to_unit_range(torch.stack(scaled).amax(dim=0), brain)
