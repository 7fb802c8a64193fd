"""HGI-SAM: self-attention maps weighted head by head with the gradient of the bleeding logit."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hgisam.attention import attention_gradients, pair
from hgisam.maps.combine import attention_received, combine_blocks, combine_stages, to_token_grid


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
    """Mean over heads of weight times attention: [B·nW, heads, N, N] and [B·nW, heads] → [B·nW, N, N]."""
    return (weights[:, :, None, None] * attention).mean(dim=1)


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

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained.
        brain: [B, H, W] mask, or None to leave the map whole.
        gradient_at: "scores" for the gradient at the softmax input, as the released code takes it; "weights" for its
            output.
        stages: Stages that enter the product, from 0; the last one is left out.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where the map is constant.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Rasoulian, Salari, Xiao, MELBA 2023:012, and its released code; departs from the latter in normalising each
    image by itself, so that batches work, in reading the geometry from each block, and in returning zeros, not NaN, for
    a constant map.
    """
    blocks, gradients = attention_gradients(model, images, target, stages=stages, gradient_at=gradient_at)
    grids: dict[int, list[Tensor]] = {stage: [] for stage in sorted(set(stages))}
    for block, gradient in zip(blocks, gradients, strict=True):
        infused = weighted_attention(block.attention.detach().float(), head_weights(gradient))
        grids[block.stage].append(to_token_grid(attention_received(infused), block))
    return combine_stages([combine_blocks(stage) for stage in grids.values()], pair(images.shape[2:]), brain)
