"""LayerCAM on Swin: positive gradients per token, over all stages."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import activation_gradients
from hgisam.attention.inspection import Logit
from hgisam.maps.combine import to_unit_range, upsample


def layer_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
    at: str = "output",
) -> Tensor:
    """Positive gradient × activation of each stage's last block; the maximum over stages.

    Args:
        model, images, target, brain, logit: As in `hgi_sam`.
        stages: Stages that are fused, from 0.
        at: "norm1", "norm2" or "output" of each stage's last block, as in `grad_cam`.

    Returns and Raises: those of `grad_cam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> layer_cam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Jiang et al., LayerCAM, IEEE TIP 2021: element-wise maximum of tanh(2 · map / its maximum). There only
    shallow layers are scaled, here all are, since Swin's deepest stage is as weak.
    """
    last = [(stage, -1) for stage in sorted(set(stages))]
    layers = activation_gradients(model, images, target, layers=last, at=at, logit=logit)
    scaled = []
    for geometry, (activation, gradient) in layers.items():
        cam = (gradient.relu() * activation).sum(dim=-1).relu()  # [B, *grid]
        peak = cam.amax(dim=tuple(range(1, cam.ndim)), keepdim=True)
        cam = torch.tanh(2 * cam / peak.where(peak > 0, 1.0))
        scaled.append(upsample(cam, images.shape[2:], geometry.extent))
    return to_unit_range(torch.stack(scaled).amax(dim=0), brain)
