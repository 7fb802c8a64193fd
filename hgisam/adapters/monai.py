"""Swins of MONAI in two and three dimensions: `SwinTransformer`, and that of `SwinUNETR`."""

from collections.abc import Sequence
from typing import Any

from monai.networks.nets.swin_unetr import SwinTransformer, WindowAttention, get_window_size

from hgisam.adapters.protocol import Size, SwinAdapter


class Adapter(SwinAdapter):
    """A window shrinks to a grid that is smaller, and is not shifted along that axis; there is no head."""

    found_by = (SwinTransformer,)
    attention = (WindowAttention,)
    off = ("use_checkpoint", "use_flash_attention")

    @property
    def stages(self) -> list[Sequence[Any]]:
        return [getattr(self.swin, f"layers{1 + stage}")[0].blocks for stage in range(self.swin.num_layers)]

    def partition(self, block: Any, grid: Size) -> tuple[Size, Size]:
        window, shift = get_window_size(grid, block.window_size, block.shift_size)  # type: ignore[no-untyped-call]
        return tuple(window), tuple(shift)
