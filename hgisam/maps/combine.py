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
    """Window reverse, then the reverse cyclic shift of the block: [B·nW, N] → [B, *grid] without padding.

    Example:
        >>> block = BlockGeometry(0, 1, window=(2, 2), shift=(1, 1), grid=(2, 4))
        >>> to_token_grid(torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7]]), block)
        tensor([[[7, 4, 5, 6],
                 [3, 0, 1, 2]]])
    """
    windows, grid = _patterns(block)
    whole = rearrange(received, f"{windows} -> {grid}", **_lengths(block))
    whole = whole if block.pads_first else _cropped(whole, block)
    return _cropped(torch.roll(whole, block.shift, dims=_axes(whole)), block)


def to_windows(grid: Tensor, block: BlockGeometry) -> Tensor:
    """Cyclic shift and window partition, padded with 0: [B, *grid] → [B·nW, N]; inverse of `to_token_grid`."""
    sides = zip(block.windows, block.window, block.grid, strict=True)
    pad = [(0, count * window - tokens) for count, window, tokens in sides]
    padding = [side for axis in reversed(pad) for side in axis]  # last axis first
    whole = F.pad(grid, padding) if block.pads_first else grid
    whole = torch.roll(whole, [-by for by in block.shift], dims=_axes(whole))
    windows, whole_grid = _patterns(block)
    return rearrange(whole if block.pads_first else F.pad(whole, padding), f"{whole_grid} -> {windows}", **_lengths(block))


def _patterns(block: BlockGeometry) -> tuple[str, str]:
    """Windows and grid for einops, here for two axes: "(b n0 n1) (w0 w1)" and "b (n0 w0) (n1 w1)"."""
    axes = range(len(block.grid))
    count, inside = " ".join(f"n{axis}" for axis in axes), " ".join(f"w{axis}" for axis in axes)
    return f"(b {count}) ({inside})", "b " + " ".join(f"(n{axis} w{axis})" for axis in axes)


def _lengths(block: BlockGeometry) -> dict[str, int]:
    counts = {f"n{axis}": count for axis, count in enumerate(block.windows)}
    return counts | {f"w{axis}": tokens for axis, tokens in enumerate(block.window)}


def _cropped(whole: Tensor, block: BlockGeometry) -> Tensor:
    return whole[(slice(None), *(slice(tokens) for tokens in block.grid))]


def _axes(maps: Tensor) -> tuple[int, ...]:
    """Dimensions of [B, *grid] without the first."""
    return tuple(range(1, maps.ndim))


def combine_blocks(grids: Sequence[Tensor]) -> Tensor:
    """Multiply pairs of consecutive blocks (W-MSA × SW-MSA) [B, *grid] of a stage and average the products.

    A last block without a pair stays as it is.
    """
    pairs = [torch.stack(list(grids[i : i + 2])).prod(dim=0) for i in range(0, len(grids), 2)]
    return torch.stack(pairs).mean(dim=0)


def combine_stages(
    stages: Sequence[Tensor],
    size: Sequence[int],
    brain: Tensor | None = None,
    *,
    extents: Sequence[tuple[float, ...]] | None = None,
) -> Tensor:
    """Min-max normalize each stage [B, *grid], upsample it to `size`, and multiply them → [B, *size] in [0, 1].

    The map is 0 outside `brain`. Each stage covers its extent, see `BlockGeometry`; by default exactly the image.
    """
    extents = extents or [(1.0,) * len(size)] * len(stages)
    upsampled = [upsample(min_max(stage), size, extent) for stage, extent in zip(stages, extents, strict=True)]
    return to_unit_range(torch.stack(upsampled).prod(dim=0), brain)


def combine(grids: Mapping[BlockGeometry, Tensor], size: Sequence[int], brain: Tensor | None) -> Tensor:
    """Multiply blocks within stages, then stages: [B, *grid] of each block → [B, *size] in [0, 1]."""
    extents = {block.stage: block.extent for block in grids}
    stages = [combine_blocks([grid for block, grid in grids.items() if block.stage == stage]) for stage in extents]
    return combine_stages(stages, size, brain, extents=list(extents.values()))


def to_unit_range(maps: Tensor, brain: Tensor | None) -> Tensor:
    """Mask maps [B, *size] by the brain, then min-max normalize each, float32; an InputError for a mask unlike them."""
    if brain is not None:
        if brain.shape != maps.shape or not torch.isfinite(brain).all():
            got = f"shape {list(brain.shape)}" if brain.shape != maps.shape else "values that are not finite"
            raise InputError("brain", got, f"a mask of shape {list(maps.shape)}", "Give one mask per image.")
        maps = maps * brain.to(maps)
    return min_max(maps).float()


def upsample(grid: Tensor, size: Sequence[int], extent: tuple[float, ...] | None = None) -> Tensor:
    """Bi- or trilinear upsampling [B, *grid] → [B, *size]; cropped where the grid exceeds the image, 0 where it ends."""
    covered = [round(px * part) for px, part in zip(size, extent or (1.0,) * len(size), strict=True)]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    whole = F.interpolate(grid[:, None], covered, mode=mode, align_corners=False)[:, 0]
    missing = [(0, px - tokens) for px, tokens in zip(size, covered, strict=True)]  # negative: cropped
    return F.pad(whole, [side for axis in reversed(missing) for side in axis]) if any(map(any, missing)) else whole


def min_max(maps: Tensor) -> Tensor:
    """Min-max normalization of each image of [B, *size]; a constant one, but for rounding, becomes 0.

    Example:
        >>> min_max(torch.tensor([[[1.0, 3.0, 5.0]]]))
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    low, high = maps.amin(dim=_axes(maps), keepdim=True), maps.amax(dim=_axes(maps), keepdim=True)
    span = high - low
    varies = span > 1e-6 * torch.maximum(high.abs(), low.abs())
    return torch.where(varies, (maps - low) / span.where(varies, 1.0), 0.0)
