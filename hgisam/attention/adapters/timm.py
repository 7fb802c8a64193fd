"""timm: version 1, 2 and 2-CR. Shifts the grid before it pads it."""

from typing import Any

from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as WindowAttentionV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr, WindowMultiHeadAttention

from hgisam.attention.swin import Axes, Swin, per_axis


class TimmSwin(Swin):
    """`SwinTransformer`, `SwinTransformerV2` and `SwinTransformerV2Cr`."""

    attention_types = (WindowAttention, WindowAttentionV2, WindowMultiHeadAttention)
    pads_first = False

    def __init__(self, module: Any) -> None:
        stages = module.stages if isinstance(module, SwinTransformerV2Cr) else module.layers
        blocks, embed = [stage.blocks for stage in stages], module.patch_embed
        super().__init__(module, blocks, embed, embed.proj, getattr(module.head, "fc", module.head))

    def window(self, block: Any, grid: Axes) -> tuple[Axes, Axes]:
        return per_axis(block.window_size), per_axis(block.shift_size)

    def valid_size(self, size: Axes) -> tuple[bool, list[str]]:
        embed: Any = self.embed
        if embed.strict_img_size:
            return size == per_axis(embed.img_size), [str(side) for side in per_axis(embed.img_size)]
        fits = 0 not in size and not any(side % px for side, px in zip(size, self.patch, strict=True))
        return fits, [f"multiple of {px}" for px in self.patch]
