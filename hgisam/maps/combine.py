"""From attention in windows to a map of the image: the steps that attention maps share."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hgisam.attention.swin import BlockGeometry
from hgisam.errors import InputError, check_choice

JOINS = ("product", "mean")
SCALES = ("image", "batch", "none")


def attention_received(attention: Tensor) -> Tensor:
    """How much attention each key token receives: the mean over queries.

    Args:
        attention: [..., N, N], query × key.

    Returns:
        [..., N].
    """
    return attention.mean(dim=-2)


def to_token_grid(received: Tensor, block: BlockGeometry, *, recipe: str = "corrected") -> Tensor:
    """Puts windows back where they were cut from, and undoes that block's own cyclic shift.

    Args:
        received: [B·nW, N], one value a token of each window.
        block: Gives window, shift and grid; padded rows and columns are dropped.
        recipe: "published" undoes, in every odd block, a shift of half a window, whether it was shifted or not.

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
    half = (window_rows // 2, window_cols // 2) if block.block % 2 else (0, 0)
    return torch.roll(grid[:, :rows, :cols], shifts=half if recipe == "published" else block.shift, dims=(1, 2))


def to_windows(grid: Tensor, block: BlockGeometry) -> Tensor:
    """Cuts [B, rows, cols] into the windows of a block, [B·nW, N]: the way back of `to_token_grid`; padding is zero."""
    (window_rows, window_cols), (rows, cols) = block.window, block.grid
    shifted = torch.roll(grid, shifts=(-block.shift[0], -block.shift[1]), dims=(1, 2))
    padded = F.pad(shifted, (0, -cols % window_cols, 0, -rows % window_rows))
    return rearrange(padded, "b (nr wr) (nc wc) -> (b nr nc) (wr wc)", wr=window_rows, wc=window_cols)


def join(maps: Sequence[Tensor], how: str) -> Tensor:
    """Maps [B, rows, cols] of one grid as one: their "product", high where all are, or their "mean".

    Raises:
        InputError: For another way.
    """
    check_choice("join", how, JOINS)
    together = torch.stack(list(maps))
    return together.prod(dim=0) if how == "product" else together.mean(dim=0)


def combine_blocks(grids: Sequence[Tensor], *, blocks: str = "product") -> Tensor:
    """Multiplies each pair of consecutive blocks (W-MSA × SW-MSA) and averages the pairs of a stage.

    Args:
        grids: [B, rows, cols] of each block of one stage, in order; an odd one out at the end stands alone.
        blocks: How the two of a pair become one, "product" or "mean".

    Returns:
        [B, rows, cols].
    """
    return join([join(grids[i : i + 2], blocks) for i in range(0, len(grids), 2)], "mean")


def combine_stages(
    stages: Sequence[Tensor],
    size: tuple[int, int],
    brain: Tensor | None = None,
    *,
    extents: Sequence[tuple[float, float]] | None = None,
    stages_by: str = "product",
    scale: str = "image",
) -> Tensor:
    """Brings the stages to the image and multiplies them.

    Args:
        stages: [B, rows, cols] of each stage.
        size: (rows, cols) of the image in pixels.
        brain: [B, H, W] mask; what lies outside becomes 0.
        extents: What each stage's grid covers, see `BlockGeometry`; the image, if not given.
        stages_by: How the stages become one, "product" or "mean".
        scale: What is brought to [0, 1] before that: the stage of each "image"; of the whole "batch" together, as the
            released code's min-max over the tensor does, also at the end; or "none".

    Returns:
        [B, H, W] in [0, 1], float32.
    """
    check_choice("scale", scale, SCALES)
    over = "batch" if scale == "batch" else "image"
    resized = [
        upsample(stage if scale == "none" else min_max(stage, over=over), size, extent)
        for stage, extent in zip(stages, extents or [(1.0, 1.0)] * len(stages), strict=True)
    ]
    return to_unit_range(join(resized, stages_by), brain, over=over)


def combine(
    grids: Mapping[BlockGeometry, Tensor],
    size: tuple[int, int],
    brain: Tensor | None,
    *,
    blocks: str = "product",
    stages_by: str = "product",
    scale: str = "image",
) -> Tensor:
    """Blocks within stages, then stages: [B, rows, cols] of each block → [B, H, W] in [0, 1].

    Options: those of `combine_blocks` and `combine_stages`.
    """
    stages = {block.stage: block.extent for block in grids}
    maps = [
        combine_blocks([grid for block, grid in grids.items() if block.stage == stage], blocks=blocks)
        for stage in stages
    ]
    return combine_stages(maps, size, brain, extents=list(stages.values()), stages_by=stages_by, scale=scale)


def to_unit_range(maps: Tensor, brain: Tensor | None, *, over: str = "image") -> Tensor:
    """Restricts maps [B, H, W] to the brain and brings each to [0, 1], float32; or all together, see `min_max`.

    Raises:
        InputError: For a brain mask of another shape, or with NaN.
    """
    if brain is not None:
        if brain.shape != maps.shape or not torch.isfinite(brain).all():
            got = f"shape {list(brain.shape)}" if brain.shape != maps.shape else "values that are not finite"
            raise InputError("brain", got, f"a mask of shape {list(maps.shape)}", "Give one mask a slice.")
        maps = maps * brain.to(maps)
    return min_max(maps, over=over).float()


def upsample(grid: Tensor, size: tuple[int, int], extent: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """[B, rows, cols] → [B, *size], bilinear between token centres.

    What the grid covers beyond the image is cut off, what it misses of the image is zero.
    """
    rows, cols = (round(px * covers) for px, covers in zip(size, extent, strict=True))
    whole = F.interpolate(grid[:, None], (rows, cols), mode="bilinear", align_corners=False)[:, 0]
    return whole if (rows, cols) == size else F.pad(whole, (0, size[1] - cols, 0, size[0] - rows))


def min_max(maps: Tensor, *, over: str = "image") -> Tensor:
    """Each image of [B, rows, cols] to [0, 1]; one that is constant, but for rounding, becomes zeros.

    Over the "batch", all images share their least and their largest value, so that a map depends on its neighbours.
    """
    dims = (0, 1, 2) if over == "batch" else (1, 2)
    low, high = maps.amin(dim=dims, keepdim=True), maps.amax(dim=dims, keepdim=True)
    span = high - low
    varies = span > 1e-6 * torch.maximum(high.abs(), low.abs())
    return torch.where(varies, (maps - low) / span.where(varies, 1.0), 0.0)
