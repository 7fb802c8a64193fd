"""Maps of the released code of the paper, with its defects, for parity tests and ablations."""

from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from hgisam.attention import BlockAttention, BlockGeometry, reduce_attention
from hgisam.maps.combine import combine, to_token_grid


def released_token_grid(received: Tensor, block: BlockGeometry) -> Tensor:
    """`to_token_grid` with the roll of the released code: every odd block by half a window, shifted or not.

    It shuffles the tokens of stage 3 (counted from 0), where timm shifts no block.
    """
    half = (block.window[0] // 2, block.window[1] // 2) if block.block % 2 else (0, 0)
    return to_token_grid(received, replace(block, shift=half))


def released_swin_sam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
) -> Tensor:
    """`swin_sam` with the roll of the released code.

    Args, Returns and Raises: those of `swin_sam`.

    Source: the released code of Rasoulian et al. 2023. Its pooling rounds in another way than a mean, which shows
        after min-max scaling of almost uniform attention.
    """

    def receive(block: BlockAttention) -> Tensor:
        attention = block.attention.mean(dim=1)  # [B·nW, N, N]
        received = F.adaptive_avg_pool2d(attention, (1, attention.shape[-1]))[:, 0]
        return released_token_grid(received, block)

    grids = reduce_attention(model, images, target, receive, stages=stages)
    return combine(grids, images.shape[2:], brain)
