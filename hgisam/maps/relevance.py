"""Relevance propagation on Swin: rollout with gradient-weighted attention."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import reduce_gradients
from hgisam.attention.swin import BlockAttention, Logit
from hgisam.maps.combine import grid_to_map, propagate, unmerge


def relevance(
    model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None, logit: Logit | None = None
) -> Tensor:
    """R ← R + Ā · R over all blocks, with Ā the mean over heads of the positive part of gradient × attention.

    As in `rollout`, one row vector is propagated backwards from the last grid, r ← r + r · Ā, initially ones. Its
    difference from ones is kept in place of it, since gradients are so small that float32 would lose them beside 1.

    Args, Returns and Raises: those of `hgi_sam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> relevance(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Chefer, Gur, Wolf, ICCV 2021, equations 5 and 6. Departs from it as `rollout` does: there is no class token,
    so that all last tokens count alike, and the 2 × 2 tokens of a merged patch get equal relevance.
    """

    def positive(block: BlockAttention, gradient: Tensor) -> Tensor:
        return (gradient * block.attention).relu().mean(dim=1)  # [B·nW, N, N]

    matrices = reduce_gradients(model, images, target, positive, stages=None, gradient_at="weights", logit=logit)
    gained = torch.zeros(len(images), *list(matrices)[-1].grid, device=images.device)
    for block, matrix in reversed(matrices.items()):
        gained = unmerge(gained, block)
        gained = gained + propagate(1 + gained, matrix, block)
    return grid_to_map(gained, block, images, brain)
