"""From attention in windows to a map of the image: the steps that attention maps share."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hgisam.attention.swin import BlockGeometry
from hgisam.errors import InputError


def attention_received(attention: Tensor) -> Tensor:
    """How much attention each key token receives: the mean over queries.

    Args:
        attention: [..., N, N], query × key.

    Returns:
        [..., N].
    """
    return attention.mean(dim=-2)


def to_token_grid(received: Tensor, block: BlockGeometry) -> Tensor:
    """Window reverse: puts windows back where they were partitioned, and undoes the block's own cyclic shift.

    Args:
        received: [B·nW, N], one value per token of each window.
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


def to_windows(grid: Tensor, block: BlockGeometry) -> Tensor:
    """Cuts [B, rows, cols] into the windows of a block, [B·nW, N]: the way back of `to_token_grid`; padding is zero."""
    (window_rows, window_cols), (rows, cols) = block.window, block.grid
    shifted = torch.roll(grid, shifts=(-block.shift[0], -block.shift[1]), dims=(1, 2))
    padded = F.pad(shifted, (0, -cols % window_cols, 0, -rows % window_rows))
    return rearrange(padded, "b (nr wr) (nc wc) -> (b nr nc) (wr wc)", wr=window_rows, wc=window_cols)


def combine_blocks(grids: Sequence[Tensor]) -> Tensor:
    """Multiplies each pair of consecutive blocks (W-MSA × SW-MSA) and averages the pairs of a stage.

    Args:
        grids: [B, rows, cols] of each block of one stage, in order; an odd one out at the end is not multiplied.

    Returns:
        [B, rows, cols].
    """
    pairs = [torch.stack(list(grids[i : i + 2])).prod(dim=0) for i in range(0, len(grids), 2)]
    return torch.stack(pairs).mean(dim=0)


def combine_stages(
    stages: Sequence[Tensor],
    size: tuple[int, int],
    brain: Tensor | None = None,
    *,
    extents: Sequence[tuple[float, float]] | None = None,
) -> Tensor:
    """Scales each stage to [0, 1], brings it to the image, and multiplies the stages.

    Args:
        stages: [B, rows, cols] of each stage.
        size: (rows, cols) of the image in pixels.
        brain: [B, H, W] mask; what lies outside becomes 0.
        extents: What each stage's grid covers, see `BlockGeometry`; the image, if not given.

    Returns:
        [B, H, W] in [0, 1], float32.
    """
    extents = extents or [(1.0, 1.0)] * len(stages)
    resized = [upsample(min_max(stage), size, extent) for stage, extent in zip(stages, extents, strict=True)]
    return to_unit_range(torch.stack(resized).prod(dim=0), brain)


def combine(grids: Mapping[BlockGeometry, Tensor], size: tuple[int, int], brain: Tensor | None) -> Tensor:
    """Blocks within stages, then stages: [B, rows, cols] of each block → [B, H, W] in [0, 1]."""
    extents = {block.stage: block.extent for block in grids}
    stages = [combine_blocks([grid for block, grid in grids.items() if block.stage == stage]) for stage in extents]
    return combine_stages(stages, size, brain, extents=list(extents.values()))


def to_unit_range(maps: Tensor, brain: Tensor | None) -> Tensor:
    """Restricts maps [B, H, W] to the brain and scales each to [0, 1], float32.

    Raises:
        InputError: For a brain mask of another shape, or with NaN.
    """
    if brain is not None:
        if brain.shape != maps.shape or not torch.isfinite(brain).all():
            got = f"shape {list(brain.shape)}" if brain.shape != maps.shape else "values that are not finite"
            raise InputError("brain", got, f"a mask of shape {list(maps.shape)}", "Give one mask per slice.")
        maps = maps * brain.to(maps)
    return min_max(maps).float()


def upsample(grid: Tensor, size: tuple[int, int], extent: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """[B, rows, cols] → [B, *size], bilinear between token centres.

    What the grid covers beyond the image is cut off, what it misses of the image is zero.
    """
    rows, cols = (round(px * covers) for px, covers in zip(size, extent, strict=True))
    whole = F.interpolate(grid[:, None], (rows, cols), mode="bilinear", align_corners=False)[:, 0]
    return whole if (rows, cols) == size else F.pad(whole, (0, size[1] - cols, 0, size[0] - rows))


def min_max(maps: Tensor) -> Tensor:
    """Min-max normalization of each image of [B, rows, cols]; one that is constant, but for rounding, becomes 0."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = high - low
    varies = span > 1e-6 * torch.maximum(high.abs(), low.abs())
    return torch.where(varies, (maps - low) / span.where(varies, 1.0), 0.0)
