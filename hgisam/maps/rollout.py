"""Attention rollout on Swin: the flow of information to the last tokens, through windows and patch merging."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import reduce_attention
from hgisam.attention.swin import Logit
from hgisam.maps.combine import grid_to_map, propagate, unmerge


def rollout(
    model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None, logit: Logit | None = None
) -> Tensor:
    """Attention and residual connections multiplied through all blocks, from the last stage back to the first.

    One row vector r over the tokens, uniform on the last grid, is propagated backwards: r ← r · (A + I) / 2 in every
    block, with A the mean attention over heads, block-diagonal over windows; at patch merging the 2 × 2 tokens get the
    share of their merged token. No matrix over all tokens is formed. The map is the same for every class; `target` is
    validated only.

    Args, Returns and Raises: those of `hgi_sam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> rollout(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Abnar and Zuidema, ACL 2020. Departs from it where Swin has patch merging and no class token: the mean over
    the last tokens is propagated, as in the average pooling of the head (also for a head with a maximum).
    """
    matrices = reduce_attention(
        model, images, target, lambda block: block.attention.mean(dim=1), stages=None, logit=logit
    )
    share = torch.ones(len(images), *list(matrices)[-1].grid, device=images.device)
    for block, matrix in reversed(matrices.items()):
        share = unmerge(share, block)
        share = (share + propagate(share, matrix, block)) / 2
    return grid_to_map(share, block, images, brain)
