"""Swin-SAM: self-attention maps without gradients, the predecessor of HGI-SAM."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hgisam.attention.gradients import reduce_attention
from hgisam.attention.swin import BlockAttention, pair
from hgisam.errors import check_choice
from hgisam.maps.combine import attention_received, combine, to_token_grid
from hgisam.maps.hgi_sam import RECIPES


def swin_sam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
    recipe: str = "corrected",
) -> Tensor:
    """Mean attention over heads, received by each token, multiplied over blocks and stages.

    Args:
        model: Is or contains one timm Swin (v1, v2 or v2-CR), and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: A class; checked, but the map is the same for each, since nothing is differentiated.
        brain: [B, H, W] mask, or None.
        stages: Stages that enter the product.
        recipe: "corrected", or "published" for the released code's map: it rolls every odd block by half a window, also
            in stage 3 (counted from 0), where timm shifts none, and so scrambles that stage.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where the map is constant.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Rasoulian, Salari, Xiao, MLCN 2022, and its released code; departs from the latter in undoing each block's
    own shift, in normalising each image by itself, and in returning zeros, not NaN, for a constant map.
    """
    check_choice("recipe", recipe, RECIPES)

    def receive(block: BlockAttention) -> Tensor:
        attention = block.attention.mean(dim=1)  # [B·nW, N, N]
        if recipe == "published":  # its pooling rounds otherwise, and min-max of almost even attention shows that
            received = F.adaptive_avg_pool2d(attention, (1, attention.shape[-1]))[:, 0]
        else:
            received = attention_received(attention)  # [B·nW, N]
        return to_token_grid(received, block, recipe=recipe)

    return combine(reduce_attention(model, images, target, receive, stages=stages), pair(images.shape[2:]), brain)
