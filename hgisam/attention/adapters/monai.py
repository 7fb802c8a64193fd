"""MONAI: `SwinTransformer`, alone or in `SwinUNETR`, in two and three dimensions."""

from typing import Any

from monai.networks.nets.swin_unetr import WindowAttention, get_window_size

from hgisam.attention.swin import Axes, Swin


class MonaiSwin(Swin):
    """`SwinTransformer`. It returns features of five scales: a pooled head is the user's, or a segmenter's decoder."""

    attention_types = (WindowAttention,)

    def __init__(self, module: Any) -> None:
        stages = [getattr(module, f"layers{number}")[0].blocks for number in range(1, module.num_layers + 1)]
        super().__init__(module, stages, module.patch_embed, module.patch_embed.proj, None)

    def window(self, block: Any, grid: Axes) -> tuple[Axes, Axes]:
        window, shift = get_window_size(grid, block.window_size, block.shift_size)  # clipped to the grid
        return tuple(window), tuple(shift)
