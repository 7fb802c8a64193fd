"""Swin-SAM: self-attention maps without gradients, the predecessor of HGI-SAM."""

from collections.abc import Sequence

from torch import Tensor, nn

from hgisam.attention.gradients import reduce_attention
from hgisam.attention.inspection import Logit
from hgisam.attention.swin import BlockAttention
from hgisam.maps.combine import attention_received, combine, to_token_grid


def swin_sam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    stages: Sequence[int] = (0, 1, 2, 3),
) -> Tensor:
    """Attention that each token receives, averaged over heads and multiplied over blocks and stages.

    The map is the same for every class, since nothing is differentiated; `target` is validated only.

    Args, Returns and Raises: those of `hgi_sam`.

    Example:
        >>> import torch
        >>> from timm.models import SwinTransformer
        >>> swin_sam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Rasoulian, Salari, Xiao, MLCN 2022, and its released code. Departs from the latter: each block's own shift
    is reversed, each image is normalized by itself, and a constant map is 0, not NaN.
    """

    def receive(block: BlockAttention) -> Tensor:
        return to_token_grid(attention_received(block.attention.mean(dim=1)), block)

    grids = reduce_attention(model, images, target, receive, stages=stages, logit=logit)
    return combine(grids, images.shape[2:], brain)
