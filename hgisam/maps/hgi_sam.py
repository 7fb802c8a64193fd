"""HGI-SAM: self-attention maps weighted head by head with the gradient of the bleeding logit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import reduce_gradients
from hgisam.attention.swin import BlockAttention, BlockGeometry, pair
from hgisam.maps.combine import attention_received, combine, to_token_grid


def head_weights(gradient: Tensor) -> Tensor:
    """How much each head matters in each window: the Frobenius norm of its gradient, without sign or normalisation.

    Args:
        gradient: [B·nW, heads, N, N].

    Returns:
        [B·nW, heads].
    """
    weights: Tensor = torch.linalg.vector_norm(gradient, dim=(2, 3))
    return weights


def weighted_attention(attention: Tensor, weights: Tensor) -> Tensor:
    """Mean over heads of weight times attention.

    Args:
        attention: [B·nW, heads, N, N]; or [B·nW, heads, N], the attention received. Both means are linear: to take that
            over queries first gives the same, and spares N times the work.
        weights: [B·nW, heads].

    Returns:
        `attention` without its heads.
    """
    return (weights.view(*weights.shape, *[1] * (attention.ndim - 2)) * attention).mean(dim=1)


def hgi_sam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    gradient_at: str = "scores",
    stages: Sequence[int] = (0, 1, 2),
) -> Tensor:
    """Head-wise gradient-infused self-attention maps.

    Runs in the precision of the model and of autocast around it; weights and means are float32 or better. Under float16
    the logit is scaled on its way back, since its gradients would vanish.

    Args:
        model: Is or contains one timm Swin (v1, v2 or v2-CR), and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained; 0 of a head with one logit.
        brain: [B, H, W] mask, or None to leave the map whole.
        gradient_at: "scores" for the gradient at the softmax input, as the released code takes it; "weights" for its
            output.
        stages: Stages that enter the product, from 0; the last one is left out.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where the map is constant, as with an empty brain mask.

    Raises:
        InputError: For a model, images or options that do not fit, or where no gradient reaches the attention.

    Source: Rasoulian, Salari, Xiao, MELBA 2023:012, and its released code, which scores on stages 0 to 2 reproduce on
    its base model. Departs from it in normalising each image by itself, so that batches work; in reading the geometry
    from each block and undoing only its own shift; in a backward pass through activations only, down to the first block
    asked for; and in returning zeros, not NaN, for a constant map.
    """
    grids = infused_grids(model, images, target, gradient_at=gradient_at, stages=stages)
    return combine(grids, pair(images.shape[2:]), brain)


def infused_grids(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    gradient_at: str,
    stages: Sequence[int],
    grid: Callable[[Tensor, BlockGeometry], Tensor] = to_token_grid,
) -> dict[BlockGeometry, Tensor]:
    """The steps of `hgi_sam` up to the token grids, before blocks and stages are combined.

    Args and Raises: those of `hgi_sam`.

    Returns:
        BlockGeometry → the weighted attention that each token receives [B, rows, cols].
    """

    def infuse(block: BlockAttention, gradient: Tensor) -> Tensor:
        received = attention_received(block.attention)  # [B·nW, heads, N]
        infused = weighted_attention(received, head_weights(gradient))  # [B·nW, N]
        return grid(infused, block)

    return reduce_gradients(model, images, target, infuse, stages=stages, gradient_at=gradient_at)
