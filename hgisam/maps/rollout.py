"""Attention rollout on Swin: where the last tokens have their news from, through windows and merged patches."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import find_swin, reduce_attention
from hgisam.attention.swin import BlockAttention, BlockGeometry, pair, stages_of
from hgisam.maps.combine import min_max, to_token_grid, to_unit_range, to_windows, upsample


def rollout(model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None) -> Tensor:
    """Attention and residual paths multiplied through all blocks, from the last stage back to the first.

    A row of shares r, one a token of the last grid and at first all alike, goes backwards: r ← r · (A + I) / 2 in every
    block, A the mean attention over heads, which is block-diagonal over windows; where patches were merged, the
    four tokens get the share of the one that they became. No matrix over all tokens is ever formed.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: A class; checked, but the map is the same for each, since nothing is differentiated.
        brain: [B, H, W] mask, or None.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where the map is constant.

    Raises:
        InputError: For a model or images that do not fit.

    Source: Abnar and Zuidema, ACL 2020. Departs from it where Swin has no class token, so that the mean over the last
    tokens is followed (the average pooling of the head; a maximum is taken for it), and no merging of patches.
    """
    stages = range(len(stages_of(find_swin(model))))
    matrices = reduce_attention(model, images, target, lambda block: block.attention.mean(dim=1), stages=stages)
    share = torch.ones(len(images), *list(matrices)[-1].grid, device=images.device)
    for block, matrix in reversed(matrices.items()):
        share = unmerge(share, block)
        share = (share + attend(share, matrix, block)) / 2
    return to_unit_range(upsample(min_max(share), pair(images.shape[2:]), block.extent), brain)


def attend(share: Tensor, matrix: Tensor, block: BlockGeometry) -> Tensor:
    """share · A within a block: what every token hands to those that it attends to.

    Args:
        share: [B, rows, cols] on the grid of the block.
        matrix: [B·nW, N, N], query × key.
        block: Its geometry.

    Returns:
        [B, rows, cols].
    """
    windows = to_windows(share, block)  # [B·nW, N]
    return to_token_grid((windows[:, None] @ matrix.to(windows))[:, 0], block)


def unmerge(share: Tensor, block: BlockAttention | BlockGeometry) -> Tensor:
    """[B, rows, cols] → the finer grid of a block before patch merging: each token gives its value to its 2 × 2."""
    if share.shape[1:] == block.grid:
        return share
    finer = share.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return finer[:, : block.grid[0], : block.grid[1]]
