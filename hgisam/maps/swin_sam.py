"""Swin-SAM: self-attention maps without gradients, the predecessor of HGI-SAM."""

from collections.abc import Sequence

from torch import Tensor, nn

from hgisam.attention.gradients import reduce_attention
from hgisam.attention.swin import BlockAttention, pair
from hgisam.maps.combine import attention_received, combine, to_token_grid


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
        model: Is or contains one timm Swin (v1, v2 or v2-CR), and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: A class; checked, but the map is the same for each, since nothing is differentiated.
        brain: [B, H, W] mask, or None.
        stages: Stages that enter the product.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where the map is constant.

    Raises:
        InputError: For a model, images or options that do not fit.

    Source: Rasoulian, Salari, Xiao, MLCN 2022, and its released code; departs from the latter in undoing each block's
    own shift, in normalising each image by itself, and in returning zeros, not NaN, for a constant map.
    """

    def receive(block: BlockAttention) -> Tensor:
        return to_token_grid(attention_received(block.attention.mean(dim=1)), block)

    return combine(reduce_attention(model, images, target, receive, stages=stages), pair(images.shape[2:]), brain)
