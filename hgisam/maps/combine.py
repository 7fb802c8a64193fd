"""From attention in windows to a map of the image: the steps that attention maps share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hgisam.attention import BlockAttention


def attention_received(attention: Tensor) -> Tensor:
    """How much attention each key token receives: the mean over queries.

    Args:
        attention: [B·nW, N, N], query × key.

    Returns:
        [B·nW, N].
    """
    return attention.mean(dim=1)


def to_token_grid(received: Tensor, block: BlockAttention) -> Tensor:
    """Puts windows back where they were cut from, and undoes that block's own cyclic shift.

    Args:
        received: [B·nW, N], one value a token of each window.
        block: Gives window, shift and grid; padded rows and columns are dropped.

    Returns:
        [B, rows, cols] on the token grid of the stage.
    """
    (window_rows, window_cols), (rows, cols) = block.window, block.grid
    grid = rearrange(
        received,
        "(b nr nc) (wr wc) -> b (nr wr) (nc wc)",
        nr=-(-rows // window_rows),
        nc=-(-cols // window_cols),
        wr=window_rows,
        wc=window_cols,
    )
    return torch.roll(grid[:, :rows, :cols], shifts=block.shift, dims=(1, 2))


def combine_blocks(grids: Sequence[Tensor]) -> Tensor:
    """Multiplies each pair of consecutive blocks (W-MSA × SW-MSA) and averages the pairs of a stage.

    Args:
        grids: [B, rows, cols] of each block of one stage, in order; an odd one out at the end stands alone.

    Returns:
        [B, rows, cols].
    """
    pairs = [torch.stack(list(grids[i : i + 2])).prod(dim=0) for i in range(0, len(grids), 2)]
    return torch.stack(pairs).mean(dim=0)


def combine_stages(stages: Sequence[Tensor], size: tuple[int, int], brain: Tensor | None = None) -> Tensor:
    """Brings the stages to the image and multiplies them.

    Args:
        stages: [B, rows, cols] of each stage.
        size: (rows, cols) of the image in pixels.
        brain: [B, H, W] mask; what lies outside becomes 0.

    Returns:
        [B, H, W] in [0, 1].
    """
    resized = [upsample(min_max(stage), size) for stage in stages]
    product = torch.stack(resized).prod(dim=0)
    return min_max(product if brain is None else product * brain.to(product.dtype))


def upsample(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, rows, cols] → [B, *size], bilinear between token centres."""
    return F.interpolate(grid[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def min_max(maps: Tensor) -> Tensor:
    """Each image of [B, rows, cols] to [0, 1]; a constant one becomes zeros."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = high - low
    return torch.where(span > 0, (maps - low) / span.where(span > 0, 1.0), 0.0)
