"""Swins of timm: version 1, 2 and 2-CR."""

from collections.abc import Sequence
from typing import Any

from timm.models.swin_transformer import SwinTransformer, WindowAttention
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2 import WindowAttention as WindowAttentionV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr, WindowMultiHeadAttention
from torch import nn

from hgisam.adapters.protocol import Size, SwinAdapter, per_axis


class Adapter(SwinAdapter):
    """A block shifts its grid, then pads it; the size of images is fixed, unless `strict_img_size` is off."""

    found_by = (SwinTransformer, SwinTransformerV2, SwinTransformerV2Cr)
    attention = (WindowAttention, WindowAttentionV2, WindowMultiHeadAttention)
    off = ("fused_attn", "grad_checkpointing")
    pads_first = False

    @property
    def stages(self) -> list[Sequence[Any]]:
        stages: Any = self.swin.stages if isinstance(self.swin, SwinTransformerV2Cr) else self.swin.layers
        return [stage.blocks for stage in stages]

    @property
    def returns_features(self) -> bool:
        return isinstance(getattr(self.swin.head, "fc", None), nn.Identity)

    def expected_size(self, size: Size) -> str | None:
        embed = self.swin.patch_embed
        if embed.strict_img_size:
            expected = per_axis(embed.img_size, 2)
            return None if size == expected else "{}, {}".format(*expected)
        fits = not any(px % patch for px, patch in zip(size, self.patch_size, strict=True)) and 0 not in size
        return None if fits else "multiple of {}, multiple of {}".format(*self.patch_size)
