"""From windows to maps: window reverse, products of blocks and stages, upsampling, min-max normalization."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hgisam.attention.swin import BlockGeometry
from hgisam.errors import InputError


def attention_received(attention: Tensor) -> Tensor:
    """Attention that each key token receives: the mean over queries, [..., N, N] query × key → [..., N]."""
    return attention.mean(dim=-2)


def to_token_grid(received: Tensor, block: BlockGeometry) -> Tensor:
    """Window reverse, then the reverse cyclic shift of the block: [B·nW, N] → [B, rows, cols] without padding.

    Example:
        >>> block = BlockGeometry(0, 1, window=(2, 2), shift=(1, 1), grid=(2, 4))
        >>> to_token_grid(torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7]]), block)
        tensor([[[7, 4, 5, 6],
                 [3, 0, 1, 2]]])
    """
    (window_rows, window_cols), (rows, cols) = block.window, block.grid
    windows = {"nr": -(-rows // window_rows), "nc": -(-cols // window_cols), "wr": window_rows, "wc": window_cols}
    grid = rearrange(received, "(b nr nc) (wr wc) -> b (nr wr) (nc wc)", **windows)
    return torch.roll(grid[:, :rows, :cols], shifts=block.shift, dims=(1, 2))


def to_windows(grid: Tensor, block: BlockGeometry) -> Tensor:
    """Cyclic shift and window partition, padded with 0: [B, rows, cols] → [B·nW, N]; inverse of `to_token_grid`."""
    (window_rows, window_cols), (rows, cols) = block.window, block.grid
    shifted = torch.roll(grid, shifts=(-block.shift[0], -block.shift[1]), dims=(1, 2))
    padded = F.pad(shifted, (0, -cols % window_cols, 0, -rows % window_rows))
    return rearrange(padded, "b (nr wr) (nc wc) -> (b nr nc) (wr wc)", wr=window_rows, wc=window_cols)


def combine_blocks(grids: Sequence[Tensor]) -> Tensor:
    """Multiply pairs of consecutive blocks (W-MSA × SW-MSA) [B, rows, cols] of a stage and average the products.

    A last block without a pair stays as it is.
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
    """Min-max normalize each stage [B, rows, cols], upsample it to `size`, and multiply them → [B, H, W] in [0, 1].

    The map is 0 outside `brain`. Each stage covers its extent, see `BlockGeometry`; by default exactly the image.
    """
    extents = extents or [(1.0, 1.0)] * len(stages)
    upsampled = [upsample(min_max(stage), size, extent) for stage, extent in zip(stages, extents, strict=True)]
    return to_unit_range(torch.stack(upsampled).prod(dim=0), brain)


def combine(grids: Mapping[BlockGeometry, Tensor], size: tuple[int, int], brain: Tensor | None) -> Tensor:
    """Multiply blocks within stages, then stages: [B, rows, cols] of each block → [B, H, W] in [0, 1]."""
    extents = {block.stage: block.extent for block in grids}
    stages = [combine_blocks([grid for block, grid in grids.items() if block.stage == stage]) for stage in extents]
    return combine_stages(stages, size, brain, extents=list(extents.values()))


def to_unit_range(maps: Tensor, brain: Tensor | None) -> Tensor:
    """Mask maps [B, H, W] by the brain, then min-max normalize each, float32; an InputError for a mask unlike them."""
    if brain is not None:
        if brain.shape != maps.shape or not torch.isfinite(brain).all():
            got = f"shape {list(brain.shape)}" if brain.shape != maps.shape else "values that are not finite"
            raise InputError("brain", got, f"a mask of shape {list(maps.shape)}", "Give one mask per slice.")
        maps = maps * brain.to(maps)
    return min_max(maps).float()


def upsample(grid: Tensor, size: tuple[int, int], extent: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Bilinear upsampling [B, rows, cols] → [B, *size]; cropped where the grid exceeds the image, 0 where it ends."""
    rows, cols = (round(px * covered) for px, covered in zip(size, extent, strict=True))
    whole = F.interpolate(grid[:, None], (rows, cols), mode="bilinear", align_corners=False)[:, 0]
    return whole if (rows, cols) == size else F.pad(whole, (0, size[1] - cols, 0, size[0] - rows))


def min_max(maps: Tensor) -> Tensor:
    """Min-max normalization of each image of [B, rows, cols]; a constant one, but for rounding, becomes 0.

    Example:
        >>> min_max(torch.tensor([[[1.0, 3.0, 5.0]]]))
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = high - low
    varies = span > 1e-6 * torch.maximum(high.abs(), low.abs())
    return torch.where(varies, (maps - low) / span.where(varies, 1.0), 0.0)
