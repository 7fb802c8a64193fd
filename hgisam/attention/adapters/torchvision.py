"""torchvision: `swin_t` to `swin_v2_b`. The softmax is inside a function, so that no module of it can be hooked."""

from typing import Any

from torchvision.models.swin_transformer import ShiftedWindowAttention

from hgisam.attention.swin import Axes, Swin


class TorchvisionSwin(Swin):
    """`SwinTransformer` of both versions: `features` are the patch embedding, then stages and patch mergings in turn."""

    attention_types = (ShiftedWindowAttention,)

    def __init__(self, module: Any) -> None:
        embed = module.features[0]
        super().__init__(module, module.features[1::2], embed, embed[0], module.head)

    def window(self, block: Any, grid: Axes) -> tuple[Axes, Axes]:
        window = tuple(block.attn.window_size)
        shift = zip(block.attn.shift_size, window, grid, strict=True)
        return window, tuple(0 if one >= tokens else by for by, one, tokens in shift)  # one window: no shift
