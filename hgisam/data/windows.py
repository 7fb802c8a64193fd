"""CT windows: from HU to the channels of a network, or to gray values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from hgisam.config.profile import Window


def apply_windows(hu: Tensor, windows: Sequence["Window"]) -> Tensor:
    """Apply CT windows, one per channel: [B, H, W] HU → [B, C, H, W] float32.

    0 at center - width / 2 and below, 1 at center + width / 2 and above, linear between.

    Example:
        >>> from hgisam.config.profile import Window
        >>> hu = torch.tensor([[[-1000, 0, 40, 60, 3000]]])
        >>> apply_windows(hu, [Window(name="brain", center_hu=40, width_hu=80)])
        tensor([[[[0.0000, 0.0000, 0.5000, 0.7500, 1.0000]]]])
    """
    hu = hu.to(torch.float32)
    channels = [(hu - (w.center_hu - w.width_hu / 2)) / w.width_hu for w in windows]
    return torch.stack(channels, dim=1).clamp_(0, 1)


def to_uint8(hu: npt.NDArray[np.number], center_hu: float, width_hu: float) -> npt.NDArray[np.uint8]:
    """Window HU of any shape for display: gray values from 0 at center - width / 2 to 255 at center + width / 2."""
    low = center_hu - width_hu / 2
    gray: npt.NDArray[np.uint8] = (np.clip((hu.astype(np.float32) - low) / width_hu, 0, 1) * 255 + 0.5).astype(np.uint8)
    return gray
