"""Swin-SAM: self-attention maps without gradients, the predecessor of HGI-SAM."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hgisam.attention import checked_logits, pair, record_attention
from hgisam.maps.combine import attention_received, combine_blocks, combine_stages, to_token_grid


def swin_sam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
) -> Tensor:
    """Mean attention over heads, received by each token, multiplied over blocks and stages.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: A class; checked, but the map is the same for each, since nothing is differentiated.
        brain: [B, H, W] mask, or None.
        stages: Stages that enter the product.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where the map is constant.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Rasoulian, Salari, Xiao, MLCN 2022, and its released code; departs from the latter in undoing each block's
    own shift (in stage 4 the released code rolls a block that was never shifted).
    """
    with torch.no_grad(), record_attention(model, stages) as blocks:
        checked_logits(model, images, target)
    grids: dict[int, list[Tensor]] = {stage: [] for stage in sorted(set(stages))}
    for block in blocks:
        received = attention_received(block.attention.float().mean(dim=1))
        grids[block.stage].append(to_token_grid(received, block))
    return combine_stages([combine_blocks(stage) for stage in grids.values()], pair(images.shape[2:]), brain)
