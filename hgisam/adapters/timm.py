"""Swins of timm: version 1, 2 and 2-CR."""

from collections.abc import Sequence
from typing import Any

from timm.models import FeatureDictNet
from timm.models.swin_transformer import SwinTransformer, SwinTransformerStage, WindowAttention
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Stage
from timm.models.swin_transformer_v2 import WindowAttention as WindowAttentionV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr, SwinTransformerV2CrStage, WindowMultiHeadAttention
from torch import nn

from hgisam.adapters.protocol import Size, SwinAdapter, per_axis

STAGES = (SwinTransformerStage, SwinTransformerV2Stage, SwinTransformerV2CrStage)


class Adapter(SwinAdapter):
    """A block shifts its grid, then pads it; the size of images is fixed, unless `strict_img_size` is off.

    For `features_only=True` timm takes the Swin apart: patch embedding and stages are children of a `FeatureListNet`.
    """

    found_by = (SwinTransformer, SwinTransformerV2, SwinTransformerV2Cr, FeatureDictNet)
    attention = (WindowAttention, WindowAttentionV2, WindowMultiHeadAttention)
    off = ("fused_attn", "grad_checkpointing")
    pads_first = False

    @property
    def stages(self) -> list[Sequence[Any]]:
        parts = getattr(self.swin, "layers", None) or getattr(self.swin, "stages", None) or self.swin.children()
        stages: list[Any] = [part.blocks for part in parts if isinstance(part, STAGES)]
        return stages

    @property
    def returns_features(self) -> bool:
        head = getattr(self.swin, "head", None)
        return head is None or isinstance(getattr(head, "fc", None), nn.Identity)

    def expected_size(self, size: Size) -> str | None:
        embed = self.swin.patch_embed
        if embed.strict_img_size:
            expected = per_axis(embed.img_size, 2)
            return None if size == expected else "{}, {}".format(*expected)
        fits = not any(px % patch for px, patch in zip(size, self.patch_size, strict=True)) and 0 not in size
        return None if fits else "multiple of {}, multiple of {}".format(*self.patch_size)
