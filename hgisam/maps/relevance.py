"""Gradient-weighted relevance on Swin: rollout in which each head counts as far as it speaks for the class."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import find_swin, reduce_gradients
from hgisam.attention.swin import BlockAttention, pair, stages_of
from hgisam.maps.combine import min_max, to_unit_range, upsample
from hgisam.maps.rollout import attend, unmerge


def relevance(model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None) -> Tensor:
    """R ← R + Ā · R over all blocks, with Ā the mean over heads of the positive part of gradient × attention.

    As in `rollout`, one row is followed backwards from the last grid: r ← r + r · Ā, begun with ones. What is above the
    ones is kept apart, since gradients are so small that float32 would lose them beside 1.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained; 0 of a head with one logit.
        brain: [B, H, W] mask, or None.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where nothing speaks for the class.

    Raises:
        InputError: For a model or images that do not fit, or where no gradient reaches the attention.

    Source: Chefer, Gur, Wolf, ICCV 2021, equations 5 and 6. Departs from it as `rollout` does: no class token, so that
    all last tokens count alike, and merged patches hand their relevance on in equal parts.
    """

    def positive(block: BlockAttention, gradient: Tensor) -> Tensor:
        return (gradient * block.attention).relu().mean(dim=1)  # [B·nW, N, N]

    stages = range(len(stages_of(find_swin(model))))
    matrices = reduce_gradients(model, images, target, positive, stages=stages, gradient_at="weights")
    gained = torch.zeros(len(images), *list(matrices)[-1].grid, device=images.device)
    for block, matrix in reversed(matrices.items()):
        gained = unmerge(gained, block)
        gained = gained + attend(1 + gained, matrix, block)
    return to_unit_range(upsample(min_max(gained), pair(images.shape[2:]), block.extent), brain)
