"""From windows to maps: window reverse, products of blocks and stages, upsampling, min-max normalization."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hgisam.attention.swin import BlockGeometry, spatial_size
from hgisam.errors import InputError

GRID = {2: "b (nr wr) (nc wc)", 3: "b (ns ws) (nr wr) (nc wc)"}  # axes → tokens, padded to whole windows
WINDOWS = {2: "(b nr nc) (wr wc)", 3: "(b ns nr nc) (ws wr wc)"}


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
    axes, kept = tuple(range(1, 1 + len(block.grid))), (slice(None), *map(slice, block.grid))
    grid = rearrange(received, f"{WINDOWS[len(axes)]} -> {GRID[len(axes)]}", **_window_sizes(block))
    if block.pads_first:
        return torch.roll(grid, block.shift, axes)[kept]
    return torch.roll(grid[kept], block.shift, axes)


def to_windows(grid: Tensor, block: BlockGeometry) -> Tensor:
    """Cyclic shift and window partition, padded with 0: [B, *grid] → [B·nW, N]; inverse of `to_token_grid`."""
    axes, back = tuple(range(1, grid.ndim)), tuple(-by for by in block.shift)
    missing = [-count % width for count, width in zip(block.grid, block.window, strict=True)]
    padding = [side for end in reversed(missing) for side in (0, end)]
    if block.pads_first:
        tokens = torch.roll(F.pad(grid, padding), back, axes)
    else:
        tokens = F.pad(torch.roll(grid, back, axes), padding)
    return rearrange(tokens, f"{GRID[len(axes)]} -> {WINDOWS[len(axes)]}", **_window_sizes(block))


def _window_sizes(block: BlockGeometry) -> dict[str, int]:
    """Number (n) and width (w) of the windows along slices (s), rows (r) and cols (c)."""
    axes = list(zip("src"[-len(block.grid) :], block.grid, block.window, strict=True))
    return {f"n{axis}": -(-tokens // w) for axis, tokens, w in axes} | {f"w{axis}": w for axis, _, w in axes}


def propagate(share: Tensor, matrix: Tensor, block: BlockGeometry) -> Tensor:
    """share · A within a block, [B, *grid] → [B, *grid], with A [B·nW, N, N] query × key."""
    windows = to_windows(share, block)  # [B·nW, N]
    return to_token_grid((windows[:, None] @ matrix.to(windows))[:, 0], block)


def unmerge(share: Tensor, block: BlockGeometry) -> Tensor:
    """Reverse of patch merging: [B, *coarser grid] → the grid of a block, each token's value copied to its 2 × 2."""
    if share.shape[1:] == block.grid:
        return share
    for axis, tokens in enumerate(block.grid, start=1):
        share = share.repeat_interleave(2, dim=axis).narrow(axis, 0, tokens)
    return share


def combine_blocks(grids: Sequence[Tensor]) -> Tensor:
    """Multiply pairs of consecutive blocks (W-MSA × SW-MSA) [B, *grid] of a stage and average the products.

    A last block without a pair stays as it is.
    """
    pairs = [torch.stack(list(grids[i : i + 2])).prod(dim=0) for i in range(0, len(grids), 2)]
    return torch.stack(pairs).mean(dim=0)


def combine_stages(
    stages: Sequence[Tensor],
    size: tuple[int, ...],
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


def combine(grids: Mapping[BlockGeometry, Tensor], size: tuple[int, ...], brain: Tensor | None) -> Tensor:
    """Multiply blocks within stages, then stages: [B, *grid] of each block → [B, *size] in [0, 1]."""
    extents = {block.stage: block.extent for block in grids}
    stages = [combine_blocks([grid for block, grid in grids.items() if block.stage == stage]) for stage in extents]
    return combine_stages(stages, size, brain, extents=list(extents.values()))


def to_unit_range(maps: Tensor, brain: Tensor | None) -> Tensor:
    """Mask maps [B, *size] by the brain, then min-max normalize each, float32; an InputError for a mask unlike them."""
    if brain is not None:
        check_brain(brain, maps.shape)
        maps = maps * brain.to(maps)
    return min_max(maps).float()


def check_brain(brain: object, shape: torch.Size) -> None:
    """Raise an InputError unless the brain is a mask of this shape, of finite values."""
    if not isinstance(brain, Tensor):
        got = f"a {type(brain).__name__}"
    elif brain.shape != shape:
        got = f"shape {list(brain.shape)}"
    elif not torch.isfinite(brain).all():
        got = "values that are not finite"
    else:
        return
    raise InputError("brain", got, f"a mask of shape {list(shape)}", "Give one mask per slice.")


def upsample(grid: Tensor, size: tuple[int, ...], extent: tuple[float, ...] | None = None) -> Tensor:
    """Bilinear or trilinear upsampling [B, *grid] → [B, *size]; cropped where it exceeds the image, 0 where it ends."""
    covered = tuple(round(px * part) for px, part in zip(size, extent or (1.0,) * len(size), strict=True))
    whole = F.interpolate(grid[:, None], covered, mode="trilinear" if len(size) == 3 else "bilinear")[:, 0]
    beyond = [px - seen for px, seen in zip(size, covered, strict=True)]
    return F.pad(whole, [side for end in reversed(beyond) for side in (0, end)]) if any(beyond) else whole


def image_and_channel(images: Tensor, channels: int, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Indices of images and channels, each pair once, in batches."""
    if batch_size < 1:
        raise InputError("batch_size", batch_size, "1 or more", "Use 32, or fewer where memory is short.")
    pairs = torch.split(torch.arange(len(images) * channels, device=images.device), batch_size)
    return [(pair // channels, pair % channels) for pair in pairs]


def weighted_channels(
    weights: Tensor, activation: Tensor, geometry: BlockGeometry, images: Tensor, brain: Tensor | None
) -> Tensor:
    """The map of weights [B, channels] and an activation with channels last: their sum, rectified and upsampled."""
    shaped = weights.view(len(weights), *[1] * (activation.ndim - 2), -1)
    return grid_to_map((shaped * activation).sum(dim=-1).relu(), geometry, images, brain)


def grid_to_map(grid: Tensor, block: BlockGeometry, images: Tensor, brain: Tensor | None) -> Tensor:
    """The map of one grid: min-max normalized, upsampled to the images and restricted to the brain."""
    return to_unit_range(upsample(min_max(grid), spatial_size(images), block.extent), brain)


def min_max(maps: Tensor) -> Tensor:
    """Min-max normalization of each image of [B, *size]; a constant one, but for rounding, becomes 0.

    Example:
        >>> min_max(torch.tensor([[[1.0, 3.0, 5.0]]]))
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(dim=axes, keepdim=True), maps.amax(dim=axes, keepdim=True)
    span = high - low
    varies = span > 1e-6 * torch.maximum(high.abs(), low.abs())
    return torch.where(varies, (maps - low) / span.where(varies, 1.0), 0.0)
