"""HGI-SAM: self-attention maps, each head weighted by the gradient of the bleeding logit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import reduce_gradients
from hgisam.attention.inspection import Logit
from hgisam.attention.swin import BlockAttention, BlockGeometry
from hgisam.maps.combine import attention_received, combine, to_token_grid


def head_weights(gradient: Tensor) -> Tensor:
    """Frobenius norm of each head's gradient per window, [B·nW, heads, N, N] → [B·nW, heads], not normalized."""
    weights: Tensor = torch.linalg.vector_norm(gradient, dim=(2, 3))
    return weights


def weighted_attention(attention: Tensor, weights: Tensor) -> Tensor:
    """Mean over heads of weight [B·nW, heads] × attention [B·nW, heads, N, N] → [B·nW, N, N].

    Attention received, [B·nW, heads, N], works too. Both means are linear: that over queries first gives the same
    result with N times fewer operations.
    """
    return (weights.view(*weights.shape, *[1] * (attention.ndim - 2)) * attention).mean(dim=1)


def hgi_sam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    gradient_at: str = "scores",
    stages: Sequence[int] = (0, 1, 2),
) -> Tensor:
    """Head-wise gradient-infused self-attention maps.

    Computed in the precision of the model and of autocast around it; weights and means in float32 or better. Under
    float16 the logit is scaled before the backward pass, since its gradients would vanish.

    Args:
        model: Is or contains one Swin of timm, torchvision, transformers or MONAI; left as it was.
        images: [B, C, H, W], or volumes [B, C, D, H, W] for a Swin of three axes; standardised as in training.
        target: Class whose logit is explained; 0 for a head with one logit.
        brain: Mask of the shape of the maps, which are 0 outside. None for the whole image.
        logit: From the model's output to logits [B, classes], for a model that returns features or a segmentation. None
            where it returns logits, or an object with `logits`.
        gradient_at: "scores" for the gradient at the softmax input, as in the released code; "weights" at its output.
        stages: Stages that are multiplied, from 0; the last is left out by default.

    Returns:
        [B, H, W] or [B, D, H, W] in [0, 1], float32; zeros where the map is constant, as with an empty brain mask.

    Raises:
        InputError: For a model, images or options that do not fit, or where no finite gradient arrives.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24, num_classes=2)
        >>> hgi_sam(model, torch.randn(1, 3, 64, 64), target=1).shape
        torch.Size([1, 64, 64])

    Source: Rasoulian, Salari, Xiao, MELBA 2023:012, and its released code, which the defaults reproduce on its base
    model. Departs from it: each image is normalized by itself, so that batches work; the geometry is read from each
    block, and only its own shift reversed; the backward pass runs through activations only, down to the first block of
    `stages`; a constant map is 0, not NaN.
    """
    grids = infused_grids(model, images, target, gradient_at=gradient_at, stages=stages, logit=logit)
    return combine(grids, images.shape[2:], brain)


def infused_grids(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    gradient_at: str,
    stages: Sequence[int],
    logit: Logit | None = None,
    grid: Callable[[Tensor, BlockGeometry], Tensor] = to_token_grid,
) -> dict[BlockGeometry, Tensor]:
    """Weighted attention received [B, *grid] per block, before `hgi_sam` combines; `grid` reverses windows."""

    def infuse(block: BlockAttention, gradient: Tensor) -> Tensor:
        received = attention_received(block.attention)  # [B·nW, heads, N]
        return grid(weighted_attention(received, head_weights(gradient)), block)  # [B·nW, N] → [B, *grid]

    return reduce_gradients(
        model, images, target, infuse, stages=stages, gradient_at=gradient_at, logit=logit
    )
