"""Geometry of Swin blocks in any number of axes, and the protocol by which a library's Swin is read.

Axes are (rows, cols) of an image or (slices, rows, cols) of a volume; nothing here counts them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hgisam.errors import InputError

Axes = tuple[int, ...]


@dataclass(frozen=True, order=True)
class BlockGeometry:
    """Position of a Swin block and geometry of its window partition.

    Attributes:
        stage: Its index from 0, as that of the `block` in it.
        window: (rows, cols) or (slices, rows, cols) of a window in tokens; N is their product.
        shift: The cyclic shift along each axis in tokens; all 0 in W-MSA.
        grid: Tokens along each axis in the recorded forward pass.
        extent: What the grid covers along each axis, in sides of the image; above 1 where the Swin padded it.
        pads_first: The grid is padded to whole windows before the cyclic shift, not after it as in timm.

    Example:
        >>> block = BlockGeometry(stage=0, block=1, window=(7, 7), shift=(3, 3), grid=(56, 56))
        >>> "SW-MSA" if any(block.shift) else "W-MSA"
        'SW-MSA'
    """

    stage: int
    block: int
    window: Axes
    shift: Axes
    grid: Axes
    extent: tuple[float, ...] = field(default=(1.0, 1.0), kw_only=True)
    pads_first: bool = field(default=False, kw_only=True)

    @property
    def windows(self) -> Axes:
        """Windows along each axis."""
        return tuple(-(-tokens // window) for tokens, window in zip(self.grid, self.window, strict=True))


@dataclass(frozen=True, eq=False)
class BlockAttention(BlockGeometry):
    """Self-attention of one Swin block.

    Attributes:
        scores: [B·nW, heads, N, N] softmax input, query × key; None where it was freed to save memory.
        attention: [B·nW, heads, N, N] softmax output; rows sum to 1.

    Example:
        >>> uniform = torch.full((64, 3, 49, 49), 1 / 49)
        >>> BlockAttention(0, 0, (7, 7), (0, 0), (56, 56), scores=None, attention=uniform).geometry.grid
        (56, 56)
    """

    scores: Tensor | None
    attention: Tensor

    @property
    def geometry(self) -> BlockGeometry:
        """The block without its tensors."""
        where = (self.stage, self.block, self.window, self.shift, self.grid)
        return BlockGeometry(*where, extent=self.extent, pads_first=self.pads_first)


class Swin(ABC):
    """A Swin of some library: where its blocks, their attention and their norms are, and how they shift and pad.

    A library is one subclass, found by `hgisam.attention.adapters.find_swin`. Hooks, gradients and maps know this
    protocol alone.

    Attributes:
        module: The Swin.
        stages: The blocks of each stage, fine to coarse.
        embed: The module that the Swin calls with the images.
        projection: Convolution of the patch embedding; its kernel is a patch.
        head: The Swin's own linear head, or None where its library has none.
        attention_types: Classes of attention; each computes one softmax in its forward.
        norms: Names of a block's norms, by those of version 1 in timm.
        pads_first: See `BlockGeometry`.
    """

    attention_types: ClassVar[tuple[type[nn.Module], ...]]
    norms: ClassVar[Mapping[str, str]] = {"norm1": "norm1", "norm2": "norm2"}
    pads_first: ClassVar[bool] = True

    def __init__(
        self, module: nn.Module, stages: Sequence[Any], embed: nn.Module, projection: Any, head: nn.Module | None
    ) -> None:
        self.module, self.embed, self.projection, self.head = module, embed, projection, head
        self.stages: list[list[Any]] = [list(blocks) for blocks in stages]

    @abstractmethod
    def window(self, block: Any, grid: Axes) -> tuple[Axes, Axes]:
        """Window and cyclic shift of a block on a token grid, as its forward pass uses them."""

    def attention(self, block: Any) -> Any:
        """The module of a block that computes the softmax."""
        return block.attn

    def grid(self, given: tuple[Any, ...]) -> Axes:
        """Token grid, from what a block is called with: [B, *grid, channels] in most libraries."""
        return tuple(given[0].shape[1:-1])

    def settings(self) -> list[tuple[Any, str, Any]]:
        """(object, attribute, value for recording) besides `FLAGS`; restored afterwards."""
        return []

    def valid_size(self, size: Axes) -> tuple[bool, list[str]]:
        """Whether images of a size fit, and the sizes that do, as one text per axis."""
        return all(side >= px for side, px in zip(size, self.patch, strict=True)), [f"≥ {px}" for px in self.patch]

    @property
    def patch(self) -> Axes:
        """Pixels of a patch along each axis."""
        return tuple(self.projection.kernel_size)

    def geometry(self, stage: int, block: int, grid: Axes, size: Axes) -> BlockGeometry:
        """Geometry of a block with `grid` tokens, for an image of `size` pixels."""
        sides = zip(grid, self.patch, size, strict=True)
        extent = tuple(tokens * px * 2**stage / side for tokens, px, side in sides)
        window, shift = self.window(self.stages[stage][block], grid)
        return BlockGeometry(stage, block, window, shift, grid, extent=extent, pads_first=self.pads_first)

    def check_images(self, images: Tensor) -> None:
        """Raise an InputError for axes, channels or sizes that do not fit; a wrapper may change its images first."""
        axes, channels = len(self.patch), self.projection.in_channels
        fits, expected = images.ndim == axes + 2, list("DHW"[-axes:])
        if fits:
            fits, expected = self.valid_size(tuple(images.shape[2:]))
        if not fits or images.shape[1] != channels:
            remedy = "Resize the images, or build the Swin for them (timm: img_size, or dynamic_img_size for any size)."
            got = f"shape {list(images.shape)} at the Swin"
            raise InputError("images", got, f"[B, {channels}, {', '.join(expected)}]", remedy)

    def block_indices(self, stages: Sequence[int]) -> list[tuple[int, int]]:
        """(stage, block) of every block of some stages, in forward order; an InputError for none or an unknown one."""
        if not stages or not set(stages) <= set(range(len(self.stages))):
            expected = f"some of 0 to {len(self.stages) - 1}"
            raise InputError("stages", list(stages), expected, "Choose stages of the model, from 0.")
        return [(stage, block) for stage in sorted(set(stages)) for block in range(len(self.stages[stage]))]

    def resolve_index(self, stage: int, block: int) -> tuple[int, int]:
        """(stage, block) from 0, where -1 was allowed for the last; an InputError for a block that does not exist."""
        depths = [len(blocks) for blocks in self.stages]
        for what, got, count in (("stage", stage, len(depths)), ("block", block, depths[stage % len(depths)])):
            if not -count <= got < count:
                raise InputError(what, got, f"0 to {count - 1}, or -1 for the last", f"Choose a {what} of the model.")
        return stage % len(depths), block % depths[stage]


def per_axis(size: Sequence[int] | torch.Size | int, axes: int = 2) -> Axes:
    """A size along each axis that may be one number for all."""
    return (size,) * axes if isinstance(size, int) else tuple(int(side) for side in size)
