"""Swins of torchvision: `swin_t` to `swin_b`, `swin_v2_t` to `swin_v2_b`."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformer

from hgisam.adapters.protocol import Size, SwinAdapter, per_axis


class Adapter(SwinAdapter):
    """Stages and patch merging alternate in `features`; a grid within one window is not shifted, but padded to it."""

    found_by = (SwinTransformer,)
    attention = (ShiftedWindowAttention,)

    @property
    def stages(self) -> list[Sequence[Any]]:
        return list(self.swin.features[1::2])

    @property
    def patch_embed(self) -> Any:
        return self.swin.features[0]

    @property
    def projection(self) -> Any:
        return self.patch_embed[0]

    @property
    def returns_features(self) -> bool:
        return isinstance(self.swin.head, nn.Identity)

    def partition(self, block: Any, grid: Size) -> tuple[Size, Size]:
        window, shift = per_axis(block.attn.window_size, 2), per_axis(block.attn.shift_size, 2)
        shifted = (0 if width >= tokens else by for width, tokens, by in zip(window, grid, shift, strict=True))
        return window, tuple(shifted)
